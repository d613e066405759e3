from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies import bulkhead, rate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("limit", "in_flight", "ramp", "available"),
    [(5, 0, None, 5), (5, 5, None, 0), (5, 9, None, 0), (5, 1, 2, 1), (5, 0, 0, 0), (5, 0, 99, 5)],
)
def test_room(limit, in_flight, ramp, available):
    assert bulkhead.available(limit=limit, in_flight=in_flight, ramp=ramp) == available


@given(
    per_minute=st.integers(1, 6000),
    asks=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_in_any_minute(per_minute, asks):
    tat, now, granted = None, NOW, []
    for seconds, wanted in asks:
        now += timedelta(seconds=seconds)
        found = rate.grant(tat=tat, now=now, per_minute=per_minute, wanted=wanted)
        tat = found.tat
        assert 0 <= found.count <= wanted
        assert (found.retry_at is None) == (found.count == wanted)
        granted += [now] * found.count
    burst = max(1, per_minute // 60)
    for at in granted:
        within = sum(at <= one < at + rate.MINUTE for one in granted)
        assert within <= per_minute + burst


def test_no_limit_grants_all():
    assert rate.grant(tat=None, now=NOW, per_minute=None, wanted=7) == rate.Grant(7, None, None)


def test_a_clock_set_back_does_not_stop_the_lane():
    ahead = rate.grant(tat=NOW + timedelta(days=2), now=NOW, per_minute=60, wanted=1)
    assert ahead.retry_at is not None
    assert ahead.retry_at - NOW <= timedelta(seconds=1)
