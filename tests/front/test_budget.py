"""What is kept of bodies, and who gives way."""

import asyncio
import os
from dataclasses import replace

import pytest

from config.front import limits
from config.front.bodies import BLOCK, CONNECTION_BYTES, Body, read
from config.front.budget import Budget
from config.front.refusals import Refused
from config.front.shutdown import Shutdown


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize("piece", [1000, 65536, 10 * BLOCK])
def test_a_body_is_what_came(size, piece):
    budget, data = Budget(100 * BLOCK), os.urandom(size)
    reservation = budget.open()
    body = Body(reservation)
    for at in range(0, size, piece):
        body.add(data[at : at + piece])
    assert body.size == size
    assert size <= budget.used <= size + 2 * BLOCK + CONNECTION_BYTES
    assert body.whole() == data
    reservation.close()
    assert budget.used == 0


def test_the_largest_gives_way_and_who_is_being_worked_on_does_not():
    budget, gone = Budget(100), []
    working, small, large = (budget.open() for _ in range(3))
    small.on_evict = lambda: gone.append("small")
    large.on_evict = lambda: gone.append("large")
    working.take(50)
    large.take(40)
    small.take(11)
    assert gone == ["large"]
    assert (budget.used, large.evicted, small.evicted) == (61, True, False)
    small.take(40)
    assert gone == ["large", "small"]
    working.take(60)
    assert budget.used == 110, "what is being worked on stays"
    for one in (working, small, large):
        one.close()
    assert budget.used == 0


def test_who_is_evicted_holds_nothing_whatever_still_comes():
    budget = Budget(10)
    reservation = budget.open()
    reservation.on_evict = lambda: None
    reservation.take(11)
    reservation.take(5)
    reservation.close()
    assert budget.used == 0


@pytest.mark.parametrize("largest", [1024, 300 * 1024, 1024 * 1024, 16 * 1024 * 1024])
def test_a_body_of_the_largest_size_fits_whatever_the_settings(settings, largest):
    settings.MAX_BODY_BYTES = settings.STRIPE_MAX_BODY_BYTES = largest
    settings.WEB_BUFFERED_BYTES = 3 * largest
    budget, piece = Budget(limits.configured().buffered_bytes), b"x" * 8000
    reservation = budget.open()
    reservation.on_evict = int
    body = Body(reservation)
    while body.size < largest:
        body.add(piece[: largest - body.size])
    assert not reservation.evicted


def test_who_is_evicted_as_its_time_ends_breaks_no_other_request():
    """The timer that is to wake it has fired in the same turn of the loop, and cannot be set again."""
    evicted = []

    async def slow() -> None:
        reservation = Budget(10).open()

        async def receive() -> dict[str, object]:
            try:
                await asyncio.Event().wait()
            finally:
                evicted.append(reservation.on_evict())
            raise AssertionError

        quick = replace(limits.configured(), body_idle_seconds=0.01)
        with pytest.raises(Refused):
            await read(receive, length=5, limit=5, reservation=reservation, limits=quick, shutdown=Shutdown())

    asyncio.run(slow())
    assert evicted == [None]
