"""How large the next batch is, and how long housekeeping rests."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reliability.policies import pacing


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [
        (1000, 0.1, 1000),  # as long as it should take
        (1000, 0.2, 500),  # twice as long: half as many
        (1000, 0.08, 1250),
        (1000, 0.001, 2000),  # no more than twice
        (1000, 60.0, 500),  # no less than half
        (4000, 0.01, 5000),  # the largest
        (30, 10.0, 20),  # the smallest
        (200, 0.0, 400),
    ],
)
def test_a_batch_is_as_large_as_the_last_ones_time_suggests(size, seconds, expected):
    assert pacing.next_size(size=size, seconds=seconds) == expected


@given(size=some.integers(pacing.SMALLEST, pacing.LARGEST), seconds=some.floats(0, 1e6))
def test_it_stays_within_its_bounds(size, seconds):
    assert pacing.SMALLEST <= pacing.next_size(size=size, seconds=seconds) <= pacing.LARGEST


@pytest.mark.parametrize(
    ("seconds", "load", "expected"), [(0.1, 0.5, 0.1), (0.1, 1.0, 0.0), (0.1, 0.1, 0.9), (0, 0.5, 0)]
)
def test_it_works_its_share_of_the_time(seconds, load, expected):
    assert pacing.pause(seconds=seconds, load=load) == pytest.approx(expected)
