"""A real web server of Backstop, on the database of the tests."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests
from django.test import override_settings

from reliability.management.commands.up import web_command

from .workers import ROOT, environment

OPTIONS = ("WEB_HEADER_SECONDS", "WEB_HEADER_BYTES", "WEB_MAX_CONNECTIONS")


class Web:
    """The server that `manage.py up` starts. `url` is its address, without a slash at its end."""

    def __init__(self, directory: Path, *, application: str = "", **changes: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "web.log"
        # The server's own options are of its command line: they are made here, from settings as it would have them.
        options = {name: int(value) for name, value in changes.items() if name in OPTIONS}
        with self.log.open("wb") as file, override_settings(**options):
            command = web_command("127.0.0.1", port)
            self.process = subprocess.Popen(
                [*command[:-1], application or command[-1]],
                env=environment(**changes),
                cwd=ROOT,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._wait()

    def _wait(self, *, within: float = 30) -> None:
        deadline = time.monotonic() + within
        while not self._answers():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """End it as a crash would, its children included."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
