"""Reads request bodies in the event loop, within limits of size, time and memory."""

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
    """The received part of a body."""

    def __init__(self, reservation: Reservation) -> None:
        self.size = 0
        self._reservation = reservation
        self._pieces: list[bytes] = []
        self._blocks: list[bytearray] = []

    def add(self, piece: bytes) -> None:
        """Store a piece. If the memory budget is used up, the reservation is evicted instead."""
        at = self.size
        self.size += len(piece)
        if self.size <= BLOCK:
            self._reservation.take(len(piece))
            self._pieces.append(piece)
            return
        # A large body goes into blocks, so that the allocator returns its memory to the system as a whole
        # (`limits.BLOCK`).
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
        """Return the body, and release its memory here."""
        if not self._blocks:
            found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        else:
            del self._blocks[-1][(self.size - 1) % BLOCK + 1 :]
            found = b"".join(self._blocks)
        self.clear()
        return found

    def clear(self) -> None:
        """Release the memory."""
        self._pieces.clear()
        self._blocks.clear()


async def read(
    receive: Receive, *, length: int | None, limit: int, reservation: Reservation, limits: Limits, shutdown: Shutdown
) -> bytes:
    """Return a body of `length` bytes, or a chunked one if the length is `None`.

    Raises `Refused` if it is larger than `limit`, too slow, incomplete, over the memory budget, or unfinished when the
    process ends.
    """
    if length is not None and length > limit:
        raise Refused(TOO_LARGE)  # before reading: a client that waits for `100 Continue` then sends nothing
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.body_seconds
    body, stopped = Body(reservation), list[Refusal]()
    try:
        async with asyncio.timeout(limits.body_seconds) as timer:

            def stop(refusal: Refusal) -> None:
                stopped.append(refusal)
                body.clear()
                if not timer.expired():  # one that fired in this turn of the loop cannot be rescheduled
                    timer.reschedule(loop.time())  # now: the timer wakes the `receive` below

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
    """Receive the next piece; return whether there may be more."""
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
    """Reads and discards the rest of refused bodies, so that their senders read the answer."""

    # Closing a connection with unread bytes resets it (RFC 9112, 9.6), and the sender may lose the answer.

    def __init__(self, limits: Limits) -> None:
        self._idle = limits.body_idle_seconds
        self._running = 0

    async def run(self, receive: Receive) -> None:
        """Read the rest of one body, within the limits."""
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
