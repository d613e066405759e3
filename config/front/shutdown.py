"""Ends a server process soon after a signal asks it to: complete requests are answered, and no other is waited for.

The server stops taking connections by itself, and waits for those that are open. Without this, one client that sends
nothing would keep the process until its limit for headers or a body is over.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from . import sockets

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds that unfinished requests still have.
GRACE = 1.0
# How often connections without a request are looked for after that, in seconds.
EVERY = 0.5

Client = tuple[str, int]


class Shutdown:
    """Whether the process ends. Everything but `_hear` happens in the event loop."""

    def __init__(self) -> None:
        # The clients whose requests are being answered, each by what is of this request alone.
        self.running: dict[int, Client] = {}
        self._idle: set[Client] = set()
        self._unfinished: set[Callable[[], object]] = set()
        self._has_begun = False
        self._ports: set[int] = set()

    def listen(self) -> None:
        """Follow the signals by which the process is asked to end, beside whoever does so already."""
        loop = asyncio.get_running_loop()
        for one in SIGNALS:
            before = signal.getsignal(one)

            def on_signal(number: int, frame: FrameType | None, before: Any = before) -> None:
                if not self._ports:
                    self._ports = sockets.ports()  # the server closes its listening socket next
                    loop.call_soon_threadsafe(loop.call_later, GRACE, self._begin)
                if callable(before):
                    before(number, frame)

            with suppress(ValueError):  # this is not the main thread: some other server
                signal.signal(one, on_signal)
                signal.siginterrupt(one, False)

    @contextmanager
    def unfinished(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop` where the process ends meanwhile."""
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
        """Read no more from connections without a request: the server takes that for their end, and closes them.

        Those are quiet twice in a row: the end of an answer may be between us and the kernel. Requests are known by
        the client's port alone, since a server may write an address in another way than the kernel does; where two
        clients have one port, both stay.
        """
        quiet, busy = sockets.idle_clients(ports=self._ports), {int(port) for _, port in self.running.values()}
        sockets.stop_reading({one for one in quiet & self._idle if one[1] not in busy}, ports=self._ports)
        self._idle = quiet
        asyncio.get_running_loop().call_later(EVERY, self._close)
