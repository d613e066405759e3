"""Supervises the embedded PostgreSQL while `manage.py up` runs: restarts it when it ends, and reports a hang.

A start takes seconds and may fail, so a process of its own does it (`python -m config.embedded`), and the supervisor's
loop does not wait. A server that runs but does not answer is only reported: the disk may be slow, or a person may have
stopped it, and a kill helps with neither. Requests meanwhile end by their own timeouts.
"""

import logging
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from config import embedded

from .supervisor import Child

if TYPE_CHECKING:
    import psutil

# Seconds: the limit of one start, the longest wait before a start, the interval of probes, and the timeout of a probe.
START_LIMIT = 120.0
LONGEST_WAIT = 5.0
PROBE_EVERY, PROBE_LIMIT = 10.0, 5.0
# How often a hang is reported again.
REPORT_EVERY = 60.0
# PostgreSQL's SSLRequest: the server answers with one byte, before any authentication.
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"

logger = logging.getLogger(__name__)


class Database:
    """The embedded server on the data in `directory`, with the address of its socket."""

    def __init__(self, *, directory: Path, socket_path: Path | None) -> None:
        self.directory = directory
        command = [sys.executable, "-m", "config.embedded", str(directory), str(os.getpid())]
        self.starter = Child("database", command, started=_now(), longest_wait=LONGEST_WAIT)
        self._server = embedded.postmaster(directory)
        self._probe = Probe(socket_path) if socket_path is not None else None

    def tend(self) -> None:
        """Restart the server if it has ended; never waits."""
        if self.starter.process is not None:
            self._follow_start()
        elif self._is_running():
            if self._probe is not None:
                self._probe.tend()
        elif self._server is not None:
            self._note_end()
        elif _now() >= self.starter.start_at:
            self.starter.start()

    def end(self) -> None:
        """End a start in progress; the server itself ends with the last process that uses it."""
        if self.starter.process is not None:
            self.starter.kill()

    def _is_running(self) -> bool:
        """Whether the server runs: the known one, or one that another command has started since."""
        known = self._server
        if known is not None and _is_alive(known):
            return True
        found = embedded.postmaster(self.directory)
        if found is None:
            return False
        self._note_start(found)
        return True

    def _note_start(self, server: "psutil.Process") -> None:
        self._server = server
        logger.warning("database_restarted", extra={"pid": server.pid})

    def _note_end(self) -> None:
        self._server = None
        wait = self.starter.plan_restart()
        why = embedded.explain(self.directory)
        logger.error("database_ended", extra={"reason": why, "again_in_s": wait})

    def _follow_start(self) -> None:
        process = self.starter.process
        code = process.poll() if process is not None else None
        if code is None:
            if _now() - self.starter.started > START_LIMIT:
                self.starter.kill()
                self._note_failure("timeout")
        elif code == 0:
            self.starter.process = None
            self.starter.started = _now()
            found = embedded.postmaster(self.directory)
            if found is not None:
                self._note_start(found)
        else:
            self._note_failure(code)

    def _note_failure(self, code: int | str) -> None:
        """Plan the next start; the failed one has printed its reason itself."""
        wait = self.starter.plan_restart()
        extra = {"code": code, "log": str(self.directory / embedded.LOG), "again_in_s": wait}
        logger.error("database_start_failed", extra=extra)


class Probe:
    """Probes the server on its socket, without ever waiting, and reports a server that does not answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silent_since: float | None = None
        self._socket: socket.socket | None = None
        self._asked_at = _now()
        self._reported_at = 0.0

    def tend(self) -> None:
        now = _now()
        if self._socket is None:
            if now - self._asked_at >= PROBE_EVERY:
                self._ask(now)
            return
        answered = self._has_answered()
        if answered:
            if self.silent_since is not None:
                logger.warning("database_answers_again", extra={"silent_s": round(now - self.silent_since, 1)})
            self.silent_since = None
        elif now - self._asked_at > PROBE_LIMIT:
            self._report(now)
        else:
            return
        self._socket.close()
        self._socket = None

    def _ask(self, now: float) -> None:
        self._asked_at = now
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        self._socket = made
        with suppress(OSError):  # gone, or its queue is full: no answer will come
            made.connect(str(self.path))
            made.send(SSL_REQUEST)

    def _has_answered(self) -> bool:
        try:
            return self._socket is not None and bool(self._socket.recv(1))
        except OSError:  # nothing to read yet, or not connected
            return False

    def _report(self, now: float) -> None:
        self.silent_since = self.silent_since or self._asked_at
        if now - self._reported_at >= REPORT_EVERY:
            self._reported_at = now
            logger.error("database_does_not_answer", extra={"silent_s": round(now - self.silent_since, 1)})


def _now() -> float:
    return time.monotonic()


def _is_alive(process: "psutil.Process") -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
