"""Sends answers from the event loop, within limits: who does not read one is cut off."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from .budget import Hold
from .gateway import File, Headers, Whole
from .limits import PIECE, Limits
from .refusals import GONE, SLOW_READER, Refused

Send = Callable[[dict[str, Any]], Awaitable[None]]


def start(status: int, headers: Headers) -> dict[str, Any]:
    """Return the message that begins an answer."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def now(send: Send, answer: Whole) -> None:
    """Send a small answer without waiting for anything; any thread may do so.

    The server takes both messages before `send` returns, and there is nothing to wait for: see docs/decisions.
    """
    send(start(answer.status, answer.headers))
    send({"type": "http.response.body", "body": answer.body})


async def whole(send: Send, answer: Whole, *, hold: Hold, limits: Limits) -> None:
    """Send an answer in pieces. Raises `Refused` where its reader takes too long, or its room is needed."""
    await send(start(answer.status, answer.headers))
    hold.take(len(answer.body))
    for at in range(0, len(answer.body), PIECE):
        await _piece(send, answer.body[at : at + PIECE], hold=hold, limits=limits)
    await send({"type": "http.response.body", "body": b""})


async def file(send: Send, answer: File, *, hold: Hold, limits: Limits) -> None:
    """Send a file in pieces, and close it. Raises as `whole`."""
    try:
        await send(start(answer.status, answer.headers))
        at, end = answer.offset, answer.offset + answer.size
        while at < end and (data := os.pread(answer.descriptor, min(PIECE, end - at), at)):
            await _piece(send, data, hold=hold, limits=limits)
            at += len(data)
        await send({"type": "http.response.body", "body": b""})
    finally:
        os.close(answer.descriptor)


async def _piece(send: Send, data: bytes, *, hold: Hold, limits: Limits) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.send_seconds) as timer:
            hold.on_evict = lambda: None if timer.expired() else timer.reschedule(loop.time())
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except TimeoutError:
        raise Refused(SLOW_READER) from None
    finally:
        hold.on_evict = None


class Stream:
    """An answer that a thread makes while the event loop sends it. The thread waits for whoever reads it, in bounds."""

    def __init__(self, send: Send, *, loop: asyncio.AbstractEventLoop, hold: Hold, limits: Limits) -> None:
        self._send, self._loop, self._hold, self._limits = send, loop, hold, limits
        self.gone = False

    def run(self, status: int, headers: Headers, pieces: Iterator[bytes]) -> None:
        """Send all pieces; in the thread that makes them. Raises `Refused`."""
        self._wait(self._begin(status, headers))
        waited = 0.0
        for piece in pieces:
            began = time.monotonic()
            self._wait(self._put(piece))
            waited += time.monotonic() - began
            if waited > self._limits.stream_seconds:
                raise Refused(SLOW_READER)
        self._wait(self._end())

    def _wait(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _begin(self, status: int, headers: Headers) -> None:
        await self._send(start(status, headers))

    async def _put(self, data: bytes) -> None:
        if self.gone:
            raise Refused(GONE)
        for at in range(0, len(data), PIECE):
            await _piece(self._send, data[at : at + PIECE], hold=self._hold, limits=self._limits)

    async def _end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
