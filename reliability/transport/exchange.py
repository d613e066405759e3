"""One HTTP exchange of this thread: its deadlines, how far it came, and the writing of its request.

A connection of `bounded` asks for the exchange that is under way in its thread (`current`). The exchange knows at any
time whether the other side can have received the request: not at all, in part, or completely.
"""

import enum
import errno
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# How much is written between two checks of the deadlines.
CHUNK = 64 * 1024
# Where `struct tcp_info` of Linux keeps the count of bytes that the other side acknowledged.
ACKNOWLEDGED = 120
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_local = threading.local()


def now() -> float:
    """Return the seconds since this machine started. Unlike `time.monotonic`, they go on while it is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class LeaseExpired(Exception):  # not an OSError: urllib3 must not take it for the network's
    """The last moment to send was over before the request was written completely. What is left was not written."""


class Stage(enum.IntEnum):
    """How far an exchange came: nothing was written at `READY`, a part at `SEND`, the whole request at `WAIT`."""

    START = 0
    RESOLVE = 1
    CONNECT = 2
    PROXY = 3
    HANDSHAKE = 4
    READY = 5
    SEND = 6
    WAIT = 7


class Exchange:
    """The exchange of one request.

    `deadline` and `send_by` are moments of `now()`: when all must be over, and after which not one byte of the
    request is written any more. `reusable` is set by the response once it ended soundly.
    """

    __slots__ = (
        "_acknowledged",
        "deadline",
        "early_data",
        "received",
        "reusable",
        "reused",
        "send_by",
        "stage",
        "stage_deadline",
        "total",
        "unreceived",
        "via_proxy",
        "written",
    )

    def __init__(self, deadline: float, send_by: float | None = None) -> None:
        self.deadline = self.stage_deadline = deadline
        self.send_by = send_by
        self.stage = Stage.START
        self.total = self.written = 0
        self.early_data = b""
        self.received = self.reusable = self.reused = self.unreceived = self.via_proxy = False
        self._acknowledged: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole request was written."""
        return self.stage is Stage.WAIT

    def enter(self, stage: Stage, *, limit: float | None = None) -> None:
        """Begin a stage, which may take `limit` seconds of what is left in all."""
        self.stage = stage
        self.stage_deadline = self.deadline if limit is None else min(self.deadline, now() + limit)

    def remaining(self) -> float:
        """Return the seconds that this stage has left. Raises `TimeoutError` if there are none."""
        left = self.stage_deadline - now()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def write(self, sock: Any, parts: list[bytes]) -> None:
        """Write the request, with a check of both deadlines directly before each call of the system.

        A socket that waits inside the system for room would go on writing after its process was stopped and
        continued; so the waiting is done here, and nothing is written without a look at the clock.
        Returns early where the answer comes first. Raises `LeaseExpired`, `TimeoutError`, `OSError`.
        """
        self.enter(Stage.READY)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self.total = len(data)
        if self.reused:
            self._acknowledged = acknowledged(sock)
        plain = isinstance(sock, socket.socket)
        if plain:
            sock.settimeout(0)
        with memoryview(data) as view:
            while self.written < self.total:
                self._check_deadlines()
                if not plain:  # TLS within TLS: it cannot be asked without waiting
                    sock.settimeout(self.remaining())
                try:
                    self.written += sock.send(view[self.written : self.written + CHUNK])
                    self.stage = Stage.SEND
                except WOULD_BLOCK as error:
                    self._wait(sock, writing=not isinstance(error, ssl.SSLWantReadError))
                    if self.early_data:
                        return
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
                    # As of a plain socket: what it said before it closed can still be read.
                    raise ConnectionResetError(errno.ECONNRESET, "closed while the request was being sent") from error
        self.enter(Stage.WAIT)

    def _check_deadlines(self) -> None:
        if self.send_by is not None and now() >= self.send_by:
            raise LeaseExpired
        self.remaining()

    def _wait(self, sock: Any, *, writing: bool) -> None:
        """Wait until there is room to write. An answer that comes first is kept as `early_data`."""
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if writing else 0))
        left = self.remaining() if self.send_by is None else min(self.remaining(), max(0.0, self.send_by - now()))
        if not any(events & select.POLLIN for _, events in poll.poll(left * 1000)):
            return
        try:
            self.early_data = sock.recv(CHUNK)
        except WOULD_BLOCK:
            return  # a record of TLS's own
        if not self.early_data:
            raise ConnectionResetError(errno.ECONNRESET, "closed while the request was being sent")

    def record_close(self, sock: Any) -> None:
        """Note that the other side closed. One that acknowledged nothing of the request had closed before it came."""
        if self.reused and not self.received and self._acknowledged is not None:
            self.unreceived = acknowledged(sock) == self._acknowledged

    def may_repeat(self, error: BaseException) -> bool:
        """Whether a kept connection turned out to be closed, so that the request certainly was not received."""
        if not self.reused or self.received or self.early_data or isinstance(error, LeaseExpired):
            return False
        return self.unreceived or (self.stage in (Stage.READY, Stage.SEND) and now() < self.stage_deadline)


def acknowledged(sock: Any) -> int | None:
    """Return how many bytes the other side's system acknowledged; `None` where this system does not say."""
    if sys.platform != "linux" or not isinstance(sock, socket.socket):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return None
    return int(struct.unpack_from("=Q", info, ACKNOWLEDGED)[0]) if len(info) >= ACKNOWLEDGED + 8 else None


@contextmanager
def use_exchange(exchange: Exchange) -> Iterator[Exchange]:
    """Let connections of this thread belong to `exchange`."""
    _local.exchange = exchange
    try:
        yield exchange
    finally:
        _local.exchange = None


def current() -> Exchange:
    """Return the exchange that is under way in this thread."""
    found: Exchange | None = getattr(_local, "exchange", None)
    if found is None:
        raise RuntimeError("No exchange is under way in this thread.")
    return found
