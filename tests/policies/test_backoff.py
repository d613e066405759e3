from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies import backoff

MS = timedelta(milliseconds=1)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("k", "base", "cap", "factor", "jitter", "wanted"),
    [
        (0, 1000, 30000, 0.0, 0.5, 1000),
        (1, 1000, 30000, 0.0, 0.5, 2000),  # 1000 * 2
        (4, 1000, 30000, 0.0, 0.5, 16000),  # 1000 * 16
        (5, 1000, 30000, 0.0, 0.5, 30000),  # 32000, capped
        (0, 1000, 30000, 0.1, 0.5, 1050),  # 1000 + 0.5 * 100
        (2, 1000, 30000, 0.1, 0.5, 4050),  # the jitter does not grow with k
        (5000, 1, 30000, 1.0, 0.9, 30000),  # no overflow
        (3, 0, 30000, 1.0, 0.9, 0),
    ],
)
def test_the_formula(k, base, cap, factor, jitter, wanted):
    found = backoff.delay(k=k, base_delay_ms=base, max_delay_ms=cap, jitter_factor=factor, jitter=jitter)
    assert found == wanted * MS


@given(
    k=st.integers(0, 10_000),
    base=st.integers(0, 86_400_000),
    more=st.integers(0, 86_400_000),
    factor=st.floats(0, 1),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_never_negative_never_above_the_maximum_never_less_for_a_later_attempt(k, base, more, factor, jitter):
    def at(attempt):
        return backoff.delay(
            k=attempt, base_delay_ms=base, max_delay_ms=base + more, jitter_factor=factor, jitter=jitter
        )

    assert timedelta(0) <= at(k) <= (base + more) * MS
    assert at(k) <= at(k + 1)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        ("Sat, 31 Jan 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Sat, 31 Jan 2026 11:00:00 GMT", timedelta(0)),
        ("9" * 40, timedelta(seconds=10**9)),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("٣", None),
    ],
)
def test_retry_after_is_read(header, wanted):
    assert backoff.parse_retry_after(header, now=NOW) == wanted


@pytest.mark.parametrize(("asked", "wanted"), [(None, 1), (10, 10), (0, 1), (9999, 30)])
def test_retry_after_counts_up_to_the_maximum(asked, wanted):
    found = backoff.honour_retry_after(
        delay=timedelta(seconds=1),
        retry_after=None if asked is None else timedelta(seconds=asked),
        max_delay_ms=30_000,
    )
    assert found == timedelta(seconds=wanted)
