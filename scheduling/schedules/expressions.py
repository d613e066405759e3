"""Parses cron expressions of Debian's cron and of n8n.

Five fields are parsed as Debian's cron does. Six fields begin with the seconds, and are parsed as n8n's library
(`cron` of npm) does. They differ in one point. If both the day of month and the day of week are restricted,
one match is enough; a field is unrestricted in Debian's cron if it begins with `*`, and in n8n if it lists every value.

`?` means `*`, and `@daily` and others stand for an expression. `L`, `LW`, `5L` and `MON#2` work, unlike in n8n.
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
# The errors of `cronsim` for an invalid part.
UNREADABLE = (CronSimError, AssertionError, ValueError, TypeError)
EXAMPLE = "such as '0 9 * * MON'"


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression of five fields for `cronsim`, and the seconds within each of its minutes."""

    minutes: str
    seconds: tuple[int, ...] = (0,)


@lru_cache(maxsize=1024)
def compiled(text: str) -> Compiled:
    """Parse an expression. Raises `InvalidInput` with the invalid part."""
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
            raise _refusal(text, "@reboot is not supported; give a time")
        if whole.lower() not in NAMED:
            raise _refusal(text, f"known names are {', '.join(NAMED)}")
        whole = NAMED[whole.lower()]
    fields = whole.split()
    if len(fields) == 7:
        raise _refusal(text, "it has 7 fields; a year is not supported")
    if len(fields) not in (5, 6):
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise _refusal(text, f"it has {count}; it needs 5, or 6 with the seconds first")
    return fields


def _unsupported(name: str, value: str) -> str:
    """Return why a part is not supported, if it is from another dialect; else an empty string."""
    if "?" in value and value != "?":
        return "'?' must be alone in its field"
    if name == "day of month":
        if re.search(r"\dW|W\d", value):
            return "the nearest weekday (W) is not supported"
        if "L-" in value:
            return "days before the last day of a month (L-) are not supported"
    if re.search(r"(^|[,/-])H", value) and name != "day of week":
        return "'H' is Jenkins syntax; write a number"
    return ""


def _rewritten(name: str, value: str) -> str:
    """Return a part in the syntax of `cronsim`: `?` is `*`, and the last Monday is `1L`."""
    if value == "?":
        return "*"
    if name == "day of week":
        return re.sub(rf"\b({'|'.join(DAYS)})L\b", lambda found: f"{DAYS.index(found[1])}L", value)
    return value


def _as_n8n(name: str, value: str) -> str:
    """Return a part that `cronsim` treats as unrestricted exactly when n8n does: if it lists every value."""
    field = Field.DAY if name == "day of month" else Field.DOW
    span, every = EVERY[name]
    try:
        items = {item % 7 if field is Field.DOW else item for item in field.parse(value) if isinstance(item, int)}
    except UNREADABLE:
        return value  # the following check reports it
    if len(items) == every:
        return "*"
    return re.sub(r"\A\*", span, value)


def _parse(text: str, field: Field, name: str, value: str) -> set[int]:
    """Return the numbers in a part. Raises `InvalidInput`."""
    try:
        return {item for item in field.parse(value) if isinstance(item, int)}
    except UNREADABLE:
        raise _refusal(text, f"'{value}' is not {'an' if name == 'hour' else 'a'} {name}") from None


def _refusal(text: str, why: str) -> InvalidInput:
    return InvalidInput(errors={"schedule": [f"'{text}' is not a cron expression, {EXAMPLE}: {why}."]})
