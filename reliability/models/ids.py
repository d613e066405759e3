"""Identifiers: UUID version 7 (RFC 9562), whose order is the order of creation."""

from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a new time-ordered identifier; ids made later sort later, to the millisecond."""
    return uuid_utils.compat.uuid7()


# Ids are made by the clocks of the processes, moments by the database's: so far may the two be apart.
SKEW = timedelta(days=1)


def at_least(moment: datetime) -> UUID:
    """Return an id below every one that was made at `moment` or later."""
    return _bound(moment.timestamp() - SKEW.total_seconds())


def before(moment: datetime) -> UUID:
    """Return an id above every one that was made before `moment`."""
    return _bound(moment.timestamp() + SKEW.total_seconds())


def _bound(seconds: float) -> UUID:
    milliseconds = min(max(0, int(seconds * 1000)), 2**48 - 1)
    return UUID(int=milliseconds << 80)
