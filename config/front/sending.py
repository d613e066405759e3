"""Sends answers within limits: a client that does not read is disconnected."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from .budget import Reservation
from .limits import PIECE, Limits
from .refusals import GONE, SLOW_READER, Refused
from .wsgi_runner import File, Headers, Whole

Send = Callable[[dict[str, Any]], Awaitable[None]]
END: dict[str, Any] = {"type": "http.response.body", "body": b""}


def start(status: int, headers: Headers) -> dict[str, Any]:
    """Return the message that begins an answer."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def now(send: Send, answer: Whole) -> None:
    """Send a small answer without waiting; from any thread."""
    # Relies on Granian: it takes both messages before `send` returns, although `send` is declared as a coroutine
    # (docs/decisions/0002-web-server.md).
    send(start(answer.status, answer.headers))
    send({"type": "http.response.body", "body": answer.body})


async def whole(send: Send, answer: Whole, *, reservation: Reservation, limits: Limits) -> None:
    """Send an answer in pieces. Raises `Refused` if the client reads too slowly, or the memory is needed."""
    await _limited(send, start(answer.status, answer.headers), reservation=reservation, limits=limits)
    reservation.take(len(answer.body))
    for at in range(0, len(answer.body), PIECE):
        await _limited(send, _piece(answer.body[at : at + PIECE]), reservation=reservation, limits=limits)
    await _limited(send, END, reservation=reservation, limits=limits)


async def file(send: Send, answer: File, *, reservation: Reservation, limits: Limits) -> None:
    """Send a file in pieces, and close it. Raises as `whole`."""
    try:
        await _limited(send, start(answer.status, answer.headers), reservation=reservation, limits=limits)
        at, end = answer.offset, answer.offset + answer.size
        while at < end and (data := os.pread(answer.descriptor, min(PIECE, end - at), at)):
            await _limited(send, _piece(data), reservation=reservation, limits=limits)
            at += len(data)
        await _limited(send, END, reservation=reservation, limits=limits)
    finally:
        os.close(answer.descriptor)


def _piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def _limited(send: Send, message: dict[str, Any], *, reservation: Reservation, limits: Limits) -> None:
    """Send one message of an answer. The server may not take it while the client reads nothing, so it has a limit."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.send_seconds) as timer:
            # Eviction ends the wait like a time-out; an expired timer cannot be rescheduled.
            reservation.on_evict = lambda: None if timer.expired() else timer.reschedule(loop.time())
            await send(message)
    except TimeoutError:
        raise Refused(SLOW_READER) from None
    finally:
        reservation.on_evict = None


class Stream:
    """An answer that a thread makes while the event loop sends it. The thread waits for the client, within limits."""

    def __init__(
        self, send: Send, *, loop: asyncio.AbstractEventLoop, reservation: Reservation, limits: Limits
    ) -> None:
        self._send, self._loop, self._reservation, self._limits = send, loop, reservation, limits
        self.gone = False

    def run(self, status: int, headers: Headers, pieces: Iterator[bytes]) -> None:
        """Send all pieces; called in the thread that makes them. Raises `Refused`."""
        self._wait(self._message(start(status, headers)))
        waited = 0.0
        for piece in pieces:
            began = time.monotonic()
            self._wait(self._put(piece))
            # In all, not per piece: a client that reads slowly enough would hold the thread for hours.
            waited += time.monotonic() - began
            if waited > self._limits.stream_seconds:
                raise Refused(SLOW_READER)
        self._wait(self._message(END))

    def _wait(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _put(self, data: bytes) -> None:
        if self.gone:
            raise Refused(GONE)
        for at in range(0, len(data), PIECE):
            await self._message(_piece(data[at : at + PIECE]))

    async def _message(self, message: dict[str, Any]) -> None:
        await _limited(self._send, message, reservation=self._reservation, limits=self._limits)
