"""Cron expressions, as written by cron, by n8n and by hand: what is accepted, and what they mean.

Five fields are read as Debian's cron reads them. Six begin with the seconds, as n8n writes them, and are read as n8n's
library (`cron` of npm) reads them. They differ in one point: where both the day of month and the day of week are
restricted, either will do; in Debian's cron a field that begins with `*` is unrestricted, in n8n's one that names every
value is.

`?` is `*`, and `@daily` and the like stand for an expression. `L`, `LW`, `5L` and `MON#2` work, though n8n has none of
them.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from cronsim import CronSimError
from cronsim.cronsim import Field

from reliability.errors import InvalidInput

NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@minutely": "* * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 * * 1-5",
    "@weekends": "0 0 * * 0,6",
}
EVERY = {"day of month": ("1-31", 31), "day of week": ("0-7", 7)}
NAMES = ("second", "minute", "hour", "day of month", "month", "day of week")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# What `cronsim` raises for a part that it cannot read.
UNREADABLE = (CronSimError, AssertionError, ValueError, TypeError)
EXAMPLE = "such as '0 9 * * MON'"


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression of five fields that `cronsim` understands, and the seconds after each of its moments."""

    minutes: str
    seconds: tuple[int, ...] = (0,)


@lru_cache(maxsize=1024)
def compiled(text: str) -> Compiled:
    """Return what an expression means. Raises `InvalidInput`, which names the part that is wrong."""
    fields = _fields(text)
    named = dict(zip(NAMES[-len(fields) :], fields, strict=True))
    for name, value in named.items():
        if why := _unsupported(name, value):
            raise _refusal(text, f"'{value}' ({name}): {why}")
        named[name] = _rewritten(name, value)
    seconds: tuple[int, ...] = (0,)
    if "second" in named:
        named |= {name: _as_n8n(name, named[name]) for name in EVERY}
        seconds = tuple(sorted(_parse(text, Field.SECOND, "second", named.pop("second"))))
    for place, (name, value) in enumerate(named.items(), start=1):
        _parse(text, Field(place), name, value)
    return Compiled(" ".join(named.values()), seconds)


def _fields(text: str) -> list[str]:
    whole = text.strip().upper()
    if whole.startswith("@"):
        if whole == "@REBOOT":
            raise _refusal(text, "Backstop runs no job when something starts: give it a time")
        if whole.lower() not in NAMED:
            raise _refusal(text, f"there are {', '.join(NAMED)}")
        whole = NAMED[whole.lower()]
    fields = whole.split()
    if len(fields) == 7:
        raise _refusal(text, "it has seven fields, and a year is not supported")
    if len(fields) not in (5, 6):
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise _refusal(text, f"it has {count}; five are needed, or six with the seconds first")
    return fields


def _unsupported(name: str, value: str) -> str:
    """Return why a part of another dialect is not supported, if it is one."""
    if "?" in value and value != "?":
        return "'?' stands alone in its field"
    if name == "day of month":
        if re.search(r"\dW|W\d", value):
            return "the weekday nearest to a day is not supported"
        if "L-" in value:
            return "days before the last day of a month are not supported"
    if re.search(r"(^|[,/-])H", value) and name != "day of week":
        return "'H' is Jenkins'; write a number"
    return ""


def _rewritten(name: str, value: str) -> str:
    """Return a part as `cronsim` writes it: `?` is `*`, and the last Monday is `1L`."""
    if value == "?":
        return "*"
    if name == "day of week":
        return re.sub(rf"\b({'|'.join(DAYS)})L\b", lambda found: f"{DAYS.index(found[1])}L", value)
    return value


def _as_n8n(name: str, value: str) -> str:
    """Return a part with which `cronsim` takes for unrestricted what n8n does: that which names every value."""
    field = Field.DAY if name == "day of month" else Field.DOW
    span, every = EVERY[name]
    try:
        items = {item % 7 if field is Field.DOW else item for item in field.parse(value) if isinstance(item, int)}
    except UNREADABLE:
        return value  # the check that follows names it
    if len(items) == every:
        return "*"
    return re.sub(r"\A\*", span, value)


def _parse(text: str, field: Field, name: str, value: str) -> set[int]:
    """Return the numbers that a part names. Raises `InvalidInput`."""
    try:
        return {item for item in field.parse(value) if isinstance(item, int)}
    except UNREADABLE:
        raise _refusal(text, f"'{value}' is not {'an' if name == 'hour' else 'a'} {name}") from None


def _refusal(text: str, why: str) -> InvalidInput:
    return InvalidInput(errors={"schedule": [f"'{text}' is not a cron expression, {EXAMPLE}: {why}."]})
