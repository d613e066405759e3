"""One HTTP exchange of a thread: its deadlines, its progress, and the writing of its request.

The connections of `deadline_adapter` use the current exchange of their thread (`current`). The exchange knows at any
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

# Bytes that are written between two checks of the deadlines.
CHUNK = 64 * 1024
# The offset of `tcpi_bytes_acked` in Linux' `struct tcp_info` (linux/tcp.h).
ACKNOWLEDGED = 120
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_local = threading.local()


def now() -> float:
    """Return seconds since this machine started, including the time it was suspended."""
    # `time.monotonic` stops during suspension on Linux: a machine that sleeps would send after its lease has ended.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class LeaseExpired(Exception):  # not an OSError: urllib3 must not take it for the network's
    """`send_by` passed before the request was written completely. The rest of it was not written."""


class Stage(enum.IntEnum):
    """The progress of an exchange. At `READY` nothing was written, at `SEND` a part, at `WAIT` the whole request."""

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

    `deadline` and `send_by` are moments of `now()`: when the exchange must be over, and after which no byte of the
    request is written. `stage_deadline` is the end of the current stage. `early_data` holds bytes of an answer that
    came before the request was written. `reusable` is set by the response once it ended correctly.
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
        """Begin a stage, which may take `limit` seconds at most, and no longer than the deadline."""
        self.stage = stage
        self.stage_deadline = self.deadline if limit is None else min(self.deadline, now() + limit)

    def remaining(self) -> float:
        """Return the seconds left for this stage. Raises `TimeoutError` if there are none."""
        left = self.stage_deadline - now()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def write(self, sock: Any, parts: list[bytes]) -> None:
        """Write the request. Both deadlines are checked directly before each system call.

        Returns early if an answer arrives first. Raises `LeaseExpired`, `TimeoutError` and `OSError`.
        """
        # The socket does not block. A blocking send waits inside the kernel; after SIGSTOP and SIGCONT it would go on
        # writing although the lease has ended. So the waiting is done here, and each write follows a check of the
        # clock.
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
                if self.send_by is not None and now() >= self.send_by:
                    raise LeaseExpired
                self.remaining()  # raises `TimeoutError`
                if not plain:  # TLS within TLS, which urllib3 offers as a blocking socket only
                    sock.settimeout(self.remaining())
                try:
                    self.written += sock.send(view[self.written : self.written + CHUNK])
                    self.stage = Stage.SEND
                except WOULD_BLOCK as error:
                    self._wait(sock, writing=not isinstance(error, ssl.SSLWantReadError))
                    if self.early_data:
                        return
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
                    # The same error as of a plain socket: what the server sent before it closed can still be read.
                    raise ConnectionResetError(errno.ECONNRESET, "closed while the request was being sent") from error
        self.enter(Stage.WAIT)

    def _wait(self, sock: Any, *, writing: bool) -> None:
        """Wait until the socket is writable. An answer that arrives first is kept as `early_data`."""
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if writing else 0))
        left = self.remaining() if self.send_by is None else min(self.remaining(), max(0.0, self.send_by - now()))
        if not any(events & select.POLLIN for _, events in poll.poll(left * 1000)):
            return
        try:
            self.early_data = sock.recv(CHUNK)
        except WOULD_BLOCK:
            return  # a record of the TLS protocol itself, not data
        if not self.early_data:
            raise ConnectionResetError(errno.ECONNRESET, "closed while the request was being sent")

    def record_close(self, sock: Any) -> None:
        """Record that the other side closed the connection."""
        # If no byte of the request was acknowledged, the other side had closed before the request arrived.
        if self.reused and not self.received and self._acknowledged is not None:
            self.unreceived = acknowledged(sock) == self._acknowledged

    def may_repeat(self, error: BaseException) -> bool:
        """Whether a kept connection turned out to be closed, so that the request certainly did not arrive."""
        if not self.reused or self.received or self.early_data or isinstance(error, LeaseExpired):
            return False
        return self.unreceived or (self.stage in (Stage.READY, Stage.SEND) and now() < self.stage_deadline)


def acknowledged(sock: Any) -> int | None:
    """Return how many bytes the other side acknowledged (TCP); `None` where that cannot be read."""
    if sys.platform != "linux" or not isinstance(sock, socket.socket):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return None
    return int(struct.unpack_from("=Q", info, ACKNOWLEDGED)[0]) if len(info) >= ACKNOWLEDGED + 8 else None


@contextmanager
def use_exchange(exchange: Exchange) -> Iterator[Exchange]:
    """Make `exchange` the current one of this thread for the block."""
    _local.exchange = exchange
    try:
        yield exchange
    finally:
        _local.exchange = None


def current() -> Exchange:
    """Return this thread's current exchange. Raises `RuntimeError` if there is none."""
    found: Exchange | None = getattr(_local, "exchange", None)
    if found is None:
        raise RuntimeError("No exchange is in progress in this thread.")
    return found
