"""Identifiers: UUID version 7 (RFC 9562), whose order is the order of creation."""

from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a new time-ordered identifier; ids made later sort later, to the millisecond."""
    return uuid_utils.compat.uuid7()


# Ids come from the clocks of the processes, timestamps from the database's: the two may differ by so much.
SKEW = timedelta(days=1)


def at_least(moment: datetime) -> UUID:
    """Return an id below every id that was made at `moment` or later."""
    return _bound(moment.timestamp() - SKEW.total_seconds())


def before(moment: datetime) -> UUID:
    """Return an id above every id that was made before `moment`."""
    return _bound(moment.timestamp() + SKEW.total_seconds())


def _bound(seconds: float) -> UUID:
    milliseconds = min(max(0, int(seconds * 1000)), 2**48 - 1)
    return UUID(int=milliseconds << 80)


# Ids of demo data have these bits where others have random ones, so that demo data can be recognised by its id alone,
# even after it was renamed.
DEMO = 0x7DE0_8DE0
DEMO_PATTERN = "%-7de0-8de0-%"  # the same, for SQL's LIKE


def demo_id(*, moment: datetime, bits: int) -> UUID:
    """Return an id of demo data, as `uuid7` would make it at `moment`."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | DEMO << 48 | bits & (2**48 - 1))


def is_demo(one: UUID) -> bool:
    """Whether an id belongs to the demo."""
    return one.int >> 48 & 0xFFFF_FFFF == DEMO
