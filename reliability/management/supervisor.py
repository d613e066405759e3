"""Runs child processes, and restarts them, until a signal stops it."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

PATIENCE = 60.0
BACKOFF_FIRST, BACKOFF_LAST = 0.5, 15.0
# Seconds after which a child counts as stable: it restarts without delay.
STEADY = 30.0
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Child:
    """A supervised process; `failures` counts ends soon after a start, in a row.

    `changes` are added to the environment of this process.
    """

    name: str
    command: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    changes: Mapping[str, str] = field(default_factory=dict)
    longest_wait: float = BACKOFF_LAST

    def start(self) -> None:
        # A session of its own: Ctrl-C reaches only this process, which then ends the children in order.
        self.process = subprocess.Popen(  # noqa: S603  # our own command
            self.command,
            env={**os.environ, **self.changes},
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  # this process has one thread
        )
        self.started = time.monotonic()
        logger.info("process_started", extra={"child": self.name, "pid": self.process.pid})

    def plan_restart(self) -> float:
        """Note its end; return the seconds until it restarts, which grow with each early end."""
        lived = time.monotonic() - self.started
        self.failures = 0 if lived > STEADY else self.failures + 1
        wait = 0.0 if self.failures == 0 else min(self.longest_wait, BACKOFF_FIRST * 2 ** (self.failures - 1))
        self.process, self.start_at = None, time.monotonic() + wait
        return wait

    def kill(self) -> None:
        """Kill it and every process that it started."""
        if self.process is not None:
            _end_group(self.process)
            self.process.wait()


class Tended(Protocol):
    """A task that the supervisor calls in its loop, beside its children."""

    def tend(self) -> None:
        """Do what is due now, without waiting."""

    def end(self) -> None:
        """End work in progress."""


class Supervisor:
    """Restarts children when they end, and ends them all on SIGINT or SIGTERM.

    Each round runs `tended` first: the children may need it, such as the database.
    """

    def __init__(self, *, children: Sequence[Child], tended: Sequence[Tended] = (), patience: float = PATIENCE) -> None:
        self.children = children
        self.tended = tended
        self.patience = patience
        self._stop = threading.Event()

    def run(self) -> None:
        """Run until a signal arrives; return when every child has ended."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        try:
            while not self._stop.is_set():
                for one in self.tended:
                    one.tend()
                for child in self.children:
                    self._tend(child)
                self._stop.wait(0.2)
        finally:
            self._end_all()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def _tend(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                child.start()
            return
        code = child.process.poll()
        if code is not None:
            _end_group(child.process)
            logger.error("process_ended", extra={"child": child.name, "code": code, "again_in_s": child.plan_restart()})

    def _end_all(self) -> None:
        for one in self.tended:
            one.end()
        running = [child.process for child in self.children if child.process and child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self.patience
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            _end_group(process)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill what a child left behind: a killed web server leaves processes that keep answering, with old code."""
    with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return a `preexec_fn` that ends a child when its parent is killed; `None` where the system is not Linux."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def bind() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return bind
