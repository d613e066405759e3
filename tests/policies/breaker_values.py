"""What the tests of the breaker share."""

from datetime import UTC, datetime, timedelta

from reliability.policies.breaker import Report, Signal

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def suspicion(lane, *, probe=False) -> Report:
    return Report(Signal.SUSPICION, probe=probe, reason="http_502: Bad Gateway", lane=lane)


def success(lane=1, **values) -> Report:
    return Report(Signal.SUCCESS, lane=lane, **values)
