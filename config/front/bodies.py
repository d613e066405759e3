"""Reads request bodies in the event loop: within a size, a time, and what all of them together may use."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from .budget import Reservation
from .limits import BLOCK, CONNECTION_BYTES, DRAIN_BYTES, DRAIN_SECONDS, DRAINS, Limits
from .refusals import BODY_BROKEN, BODY_IDLE, BODY_SLOW, BUDGET_SPENT, ENDING, TOO_LARGE, Refusal, Refused
from .shutdown import Shutdown

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Body:
    """What has come of a body."""

    def __init__(self, reservation: Reservation) -> None:
        self.size = 0
        self._reservation = reservation
        self._pieces: list[bytes] = []
        self._blocks: list[bytearray] = []

    def add(self, piece: bytes) -> None:
        """Keep a piece, unless there is no room for it: then the reservation is evicted."""
        at = self.size
        self.size += len(piece)
        if self.size <= BLOCK:
            self._reservation.take(len(piece))
            self._pieces.append(piece)
            return
        left = memoryview(piece)
        if not self._blocks:
            self._reservation.take(CONNECTION_BYTES)
            at = 0
            left = memoryview(b"".join([*self._pieces, piece]))
            self._pieces.clear()
        while left:
            start = at % BLOCK
            if not start:
                self._reservation.take(BLOCK)
                if self._reservation.evicted:
                    return
                self._blocks.append(bytearray(BLOCK))
            part = left[: BLOCK - start]
            self._blocks[-1][start : start + len(part)] = part
            at, left = at + len(part), left[len(part) :]

    def whole(self) -> bytes:
        """Return it, and keep nothing."""
        if not self._blocks:
            found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        else:
            del self._blocks[-1][(self.size - 1) % BLOCK + 1 :]
            found = b"".join(self._blocks)
        self.clear()
        return found

    def clear(self) -> None:
        """Let go of everything."""
        self._pieces.clear()
        self._blocks.clear()


async def read(
    receive: Receive, *, length: int | None, limit: int, reservation: Reservation, limits: Limits, shutdown: Shutdown
) -> bytes:
    """Return a body of `length` bytes, or one in chunks where that is unknown.

    Raises `Refused` where it is larger than `limit`, comes too slowly, breaks off, has no room in memory, or is
    unfinished when the process ends.
    """
    if length is not None and length > limit:
        raise Refused(TOO_LARGE)  # nothing was read: who waits for `100 Continue` is told before sending anything
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.body_seconds
    body, stopped = Body(reservation), list[Refusal]()
    try:
        async with asyncio.timeout(limits.body_seconds) as timer:

            def stop(refusal: Refusal) -> None:
                stopped.append(refusal)
                body.clear()
                if not timer.expired():  # one that fired in this very turn of the loop cannot be set again
                    timer.reschedule(loop.time())  # a timer that is due wakes whoever waits below

            reservation.on_evict = partial(stop, BUDGET_SPENT)
            with shutdown.unfinished(partial(stop, ENDING)):
                while body.size != length and not stopped:
                    timer.reschedule(min(end, loop.time() + limits.body_idle_seconds))
                    if not await _take(receive, body, limit):
                        break
    except TimeoutError:
        if not stopped:
            raise Refused(BODY_SLOW if loop.time() >= end else BODY_IDLE) from None
    finally:
        reservation.on_evict = None
    if stopped:
        raise Refused(stopped[0])
    return body.whole()


async def _take(receive: Receive, body: Body, limit: int) -> bool:
    """Take what comes next; say whether there may be more."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Refused(BODY_BROKEN)
    piece: bytes = message["body"]
    if body.size + len(piece) > limit:
        raise Refused(TOO_LARGE)
    if piece:
        body.add(piece)
    return bool(message.get("more_body"))


class Drain:
    """Reads what is left of refused bodies and throws it away, so that their senders come to read the answer.

    A connection that is closed over unread bytes is reset, and its sender may lose the answer that it was sent.
    """

    def __init__(self, limits: Limits) -> None:
        self._idle = limits.body_idle_seconds
        self._running = 0

    async def run(self, receive: Receive) -> None:
        """Read one body, for as long and as much as may be."""
        if self._running >= DRAINS:
            return
        self._running += 1
        try:
            await self._run(receive)
        except TimeoutError:
            pass
        finally:
            self._running -= 1

    async def _run(self, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        end, left = loop.time() + DRAIN_SECONDS, DRAIN_BYTES
        async with asyncio.timeout(self._idle) as timer:
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
                left -= len(message["body"])
                timer.reschedule(min(end, loop.time() + self._idle))
