"""Backstop as a newcomer runs it: `manage.py up` on an embedded database of its own, from a copy of the code."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import requests

from config import embedded

from .receiver import until
from .workers import ROOT

PARTS = ("config", "reliability", "scheduling", "templates")
# What would have it use another database, or another secret than a newcomer has.
UNSET = ("DATABASE_URL", "SECRET_KEY", "CRON_SECRET", "DJANGO_SETTINGS_MODULE", "ALLOWED_HOSTS")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


class Newcomer:
    """A running `manage.py up`; `data` is its server's directory, `log` what it writes."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "backstop"
        self.root.mkdir()
        for one in PARTS:
            copytree(ROOT / one, self.root / one)  # what is compiled already, too
        (self.root / "manage.py").write_bytes((ROOT / "manage.py").read_bytes())
        self.data = self.root / ".data" / "postgresql"
        self.log = directory / "up.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        self.environment |= {"PORT": str(self.port), "ADMIN_PASSWORD": "a-password-1", "LOG_LEVEL": "INFO"}

    def up(self, *options: str, **values: str) -> "subprocess.Popen[bytes]":
        """Start it, and wait until it is ready."""
        self.environment |= values
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", *options],
                env=self.environment,
                cwd=self.root,
                stdout=log,
                stderr=log,
            )
        until(self.is_ready, within=120, what="a start")
        return self.process

    def is_ready(self) -> bool:
        return answers(f"{self.url}/readyz")

    def manage(self, *arguments: str) -> str:
        """Run another command beside it; return the last line of what it says."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("\n")[2]

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.address(), connect_timeout=10, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def address(self) -> str:
        lines = (self.data / embedded.POSTMASTER).read_text().splitlines()
        return f"postgresql://postgres@/{embedded.NAME}?host={lines[4]}"

    def child(self, part: str) -> int:
        """Return the process whose command holds `part`."""
        assert self.process is not None
        return next(pid for pid in children(self.process.pid) if part in command_of(pid))

    def kill_postmaster(self) -> None:
        server = embedded.postmaster(self.data)
        assert server is not None
        server.kill()

    def events(self, name: str) -> list[str]:
        """Return the lines of its log that are of this event."""
        return [line for line in self.log.read_text().splitlines() if f" {name} " in f"{line} "]

    def end(self) -> None:
        """End all that is left of it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if (server := embedded.postmaster(self.data)) is not None:
            server.send_signal(signal.SIGQUIT)
            server.wait(60)
