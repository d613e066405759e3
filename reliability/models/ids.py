"""Identifiers: UUID version 7 (RFC 9562), whose order is the order of creation."""

from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a new time-ordered identifier; ids made later sort later, to the millisecond."""
    return uuid_utils.compat.uuid7()
