"""Reads Stripe events: snapshot events, and thin events (v2).

The shapes are those of Stripe's documentation ("The Event object", "Thin events"). Missing fields are accepted, since
hand-made and older events lack some; a field of another type than Stripe's is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reliability.errors import InvalidInput

THIN = "v2.core.event"
PING = "v2.core.event_destination.ping"
LENGTH_LIMIT = 255
# Stripe's `created` lies in this range of seconds: from 2001 to 2286.
SECONDS = (10**9, 10**10)


@dataclass(frozen=True, slots=True)
class Event:
    """An event's fields. `account` and `object_id` are empty if it names none."""

    id: str
    type: str
    livemode: bool
    occurred_at: datetime
    account: str = ""
    api_version: str = ""
    object_id: str = ""

    @property
    def is_ping(self) -> bool:
        """Whether it is a test of an event destination."""
        return self.type == PING


def read(document: Any, *, now: datetime) -> Event:
    """Read an event; `now` is used if it has no `created`. Raises `InvalidInput`."""
    if not isinstance(document, Mapping):
        raise InvalidInput("An event is a JSON object.")
    thin = document.get("object") == THIN
    livemode = document.get("livemode", False)
    if not isinstance(livemode, bool):
        raise _wrong("livemode", "true or false is needed")
    return Event(
        id=_name(document, "id"),
        type=_name(document, "type"),
        livemode=livemode,
        occurred_at=_moment(document.get("created"), now),
        account=_text(document.get("account")),
        api_version=_text(document.get("api_version")),
        object_id=_text(_about(document, thin=thin).get("id")),
    )


def _about(document: Mapping[str, Any], *, thin: bool) -> Mapping[str, Any]:
    """Return the object that the event is about: named in a thin event, held in a snapshot."""
    data = document.get("data")
    found = document.get("related_object") if thin else data.get("object") if isinstance(data, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _name(document: Mapping[str, Any], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not value:
        raise _wrong(field, "the event has none")
    if not _is_plain(value):
        raise _wrong(field, f"1 to {LENGTH_LIMIT} printable ASCII characters without spaces are needed")
    return value


def _text(value: Any) -> str:
    """Return a descriptive text; empty if it is not one of Stripe's."""
    return value if isinstance(value, str) and _is_plain(value) else ""


def _is_plain(value: str) -> bool:
    return 0 < len(value) <= LENGTH_LIMIT and value.isascii() and value.isprintable() and " " not in value


def _moment(value: Any, now: datetime) -> datetime:
    """Read `created`: seconds since 1970 in a snapshot, ISO 8601 in a thin event."""
    if value is None:
        return now
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int) and not isinstance(value, bool) and SECONDS[0] <= value < SECONDS[1]:
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError):
        pass
    raise _wrong("created", "seconds since 1970, or a time, are needed")


def _wrong(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"The event's '{field}' is wrong: {message}.", errors={field: [message]})


@dataclass(frozen=True, slots=True)
class Stamp:
    """A signature's timestamp in seconds since 1970; `None` if the header has none."""

    seconds: int | None

    def off_by(self, *, now: float, tolerance: float) -> str:
        """Return `stale` or `future` if it is further from `now` than `tolerance` seconds, else an empty string."""
        if self.seconds is None or abs(self.seconds - now) <= tolerance:
            return ""
        return "stale" if self.seconds < now else "future"


def stamp_of(header: str) -> Stamp:
    """Read the timestamp of a `Stripe-Signature` header, the first of its `t=` parts, as Stripe's library does."""
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name == "t" and value.isascii() and value.isdigit() and len(value) < 16:
            return Stamp(int(value))
    return Stamp(None)
