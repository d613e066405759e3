"""Ends a server process soon after a signal: complete requests are answered, no other is waited for.

The server stops accepting connections by itself, and waits for open ones. Without this module, one client that sends
nothing would keep the process until its limit for headers or a body has passed.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from . import sockets

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds until unfinished requests are refused.
GRACE = 1.0
# Seconds between two searches for idle connections after that.
EVERY = 0.5

Client = tuple[str, int]


class Shutdown:
    """The shutdown of the process. Everything except the signal handler runs in the event loop."""

    def __init__(self) -> None:
        # The clients whose requests are being answered, by the id of the exchange: a client may have several.
        self.running: dict[int, Client] = {}
        self._idle: set[Client] = set()
        self._unfinished: set[Callable[[], object]] = set()
        self._has_begun = False
        self._ports: set[int] = set()

    def listen(self) -> None:
        """Handle SIGTERM and SIGINT, in addition to the handlers that are installed already (the server's)."""
        loop = asyncio.get_running_loop()
        for one in SIGNALS:
            before = signal.getsignal(one)

            def on_signal(number: int, frame: FrameType | None, before: Any = before) -> None:
                if not self._ports:
                    self._ports = sockets.ports()  # before the server closes its listening socket
                    loop.call_soon_threadsafe(loop.call_later, GRACE, self._begin)
                if callable(before):
                    before(number, frame)

            with suppress(ValueError):  # not the main thread: under another server than ours
                signal.signal(one, on_signal)
                signal.siginterrupt(one, False)

    @contextmanager
    def unfinished(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop` if the process ends within the block."""
        if self._has_begun:
            stop()
        self._unfinished.add(stop)
        try:
            yield
        finally:
            self._unfinished.discard(stop)

    def _begin(self) -> None:
        self._has_begun = True
        asyncio.get_running_loop().call_later(EVERY, self._close)
        for stop in list(self._unfinished):
            stop()

    def _close(self) -> None:
        """Shut down reading on connections without a request; the server takes that for their end and closes them."""
        # Workaround: the server has no call for it. A connection has to be idle twice in a row, since the end of an
        # answer may be on its way to the kernel. Requests are matched by the client's port only, since the server may
        # write an address in another way than the kernel; if two clients have the same port, both stay.
        quiet, busy = sockets.idle_clients(ports=self._ports), {int(port) for _, port in self.running.values()}
        sockets.stop_reading({one for one in quiet & self._idle if one[1] not in busy}, ports=self._ports)
        self._idle = quiet
        asyncio.get_running_loop().call_later(EVERY, self._close)
