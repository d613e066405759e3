"""Real processes of Backstop, on the database of the tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from django.db import connection

ROOT = Path(__file__).resolve().parents[2]


def database_url() -> str:
    """Return the address of the tests' database."""
    values = connection.settings_dict
    host = quote(values["HOST"] or "", safe="")
    if values["HOST"].startswith("/"):
        return f"postgresql://{values['USER']}@/{values['NAME']}?host={values['HOST']}"
    password = f":{quote(values['PASSWORD'])}" if values["PASSWORD"] else ""
    return f"postgresql://{values['USER']}{password}@{host}:{values['PORT'] or 5432}/{values['NAME']}"


def environment(**changes: str) -> dict[str, str]:
    values = {
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOG_LEVEL": "INFO",
    }
    return {**os.environ, **values, **changes}


class Workers:
    """Starts workers; whatever is left of them ends with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, command: Sequence[str] = ("worker",), **changes: str) -> "subprocess.Popen[bytes]":
        log = self.directory / f"worker-{len(self.running)}.log"
        words = [sys.executable, str(ROOT / "manage.py"), *command, *options]
        with log.open("wb") as file:
            process = subprocess.Popen(
                words, env=environment(**changes), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
            )
        process.log = log
        self.running.append(process)
        return process

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def end(self, process: "subprocess.Popen[bytes]") -> float:
        """End a worker as an operator would; return how long it took."""
        begun = time.monotonic()
        process.terminate()
        process.wait(timeout=60)
        return time.monotonic() - begun

    def end_all(self) -> None:
        for process in self.running:
            if process.poll() is None:
                self.kill(process)
