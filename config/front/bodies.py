"""Reads request bodies in the event loop: within a size, a time, and what all of them together may hold."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .budget import Hold
from .limits import DRAIN_BYTES, DRAIN_SECONDS, Limits
from .refusals import BODY_BROKEN, BODY_IDLE, BODY_SLOW, BUDGET_SPENT, TOO_LARGE, Refused

Receive = Callable[[], Awaitable[dict[str, Any]]]


async def read(receive: Receive, *, length: int | None, limit: int, hold: Hold, limits: Limits) -> bytes:
    """Return a body of `length` bytes, or one in chunks where that is unknown.

    Raises `Refused` where it is larger than `limit`, comes too slowly, breaks off, or has no room in memory.
    """
    if length is not None and length > limit:
        raise Refused(TOO_LARGE)  # nothing was read: who waits for `100 Continue` is told before sending anything
    loop = asyncio.get_running_loop()
    now = loop.time()
    end = now + limits.body_seconds
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout_at(min(end, now + limits.body_idle_seconds)) as timer:
            # A timer that is due is how whoever waits below is woken.
            hold.on_evict = lambda: timer.reschedule(loop.time())
            await _collect(receive, pieces, length, limit, hold, lambda: _prolong(timer, loop, end, limits))
    except TimeoutError:
        if not hold.evicted:
            raise Refused(BODY_SLOW if loop.time() >= end else BODY_IDLE) from None
    finally:
        hold.on_evict = None
    if hold.evicted:
        raise Refused(BUDGET_SPENT)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _collect(
    receive: Receive, pieces: list[bytes], length: int | None, limit: int, hold: Hold, prolong: Callable[[], None]
) -> None:
    size = 0
    while size != length and not hold.evicted:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(BODY_BROKEN)
        piece = message["body"]
        size += len(piece)
        if size > limit:
            raise Refused(TOO_LARGE)
        if piece:
            pieces.append(piece)
            hold.take(len(piece))
        if not message.get("more_body"):
            return
        prolong()
    if hold.evicted:
        pieces.clear()


def _prolong(timer: asyncio.Timeout, loop: asyncio.AbstractEventLoop, end: float, limits: Limits) -> None:
    if timer.when() is not None and not timer.expired():
        timer.reschedule(min(end, loop.time() + limits.body_idle_seconds))


async def drain(receive: Receive, *, limits: Limits) -> None:
    """Read what is left of a body and throw it away, so that its sender comes to read the answer.

    A connection that is closed over unread bytes is reset, and its sender may lose the answer that it was sent.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + DRAIN_SECONDS
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout_at(min(end, loop.time() + limits.body_idle_seconds)) as timer:
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
                left -= len(message["body"])
                timer.reschedule(min(end, loop.time() + limits.body_idle_seconds))
    except TimeoutError:
        return
