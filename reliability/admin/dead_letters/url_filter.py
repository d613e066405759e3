"""Reads the filter of dead letters from a query string. An invalid filter matches nothing and reports the error.

The list, its export and the bulk pages share it, so that a query string means the same everywhere.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from urllib.parse import urlencode
from uuid import UUID

from django.http import QueryDict
from django.utils.dateparse import parse_date, parse_datetime

from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import DeadLetterSource, DeadLetterStatus
from reliability.policies.error_codes import Reason, reason_label

STATUS, SEARCH, ALL = "status__exact", "q", "all"
# Query parameter -> the filter's field.
TEXTS = {
    "workflow": "workflow",
    "tenant": "tenant",
    "reason": "reason",
    "error_code": "error_code",
    "fingerprint": "fingerprint",
    "source": "source",
    SEARCH: "search",
}
TIMES = {"after": "created_after", "before": "created_before"}
FILTERS = (STATUS, *TEXTS, *TIMES)
# Other parameters that are allowed, such as Django's own.
CURSORS = ("next", "prev")
BESIDES = {"order", *CURSORS, "_changelist_filters", "_popup", "_to_field", "_facets", "stay"}
CHOICES = {
    STATUS: (*DeadLetterStatus.values, ALL),
    "reason": tuple(Reason),
    "source": tuple(DeadLetterSource.values),
    "order": ("newest", "oldest"),
}
LIMIT = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """The filter in a query string; with `problems` it matches nothing."""

    selection: DeadLetterFilter
    values: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return self.values.get(STATUS) or DeadLetterStatus.DEAD

    @property
    def oldest_first(self) -> bool:
        return self.values.get("order") == "oldest"

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the status is filtered."""
        return any(self.values.get(name) for name in (*TEXTS, *TIMES))

    def address(self, **changes: str | None) -> str:
        """Return the query string of the same filter with `changes`; `None` removes a value."""
        kept = {name: value for name, value in self.values.items() if name in FILTERS or name == "order"}
        return urlencode({name: value for name, value in (kept | changes).items() if value})


def read(params: QueryDict) -> Reading:
    """Read the parameters. The default status is dead."""
    problems = [f"There is no filter '{name[:40]}'." for name in params if name not in {*FILTERS, *BESIDES}]
    problems += [f"The filter '{name}' occurs more than once." for name in params if len(params.getlist(name)) > 1]
    values = {name: (params.get(name) or "").strip() for name in (*FILTERS, "order") if params.get(name)}
    problems += [text for name, value in values.items() if (text := _wrong(name, value))]
    problems += [
        f"The filter '{name}' is blank." for name in (*FILTERS, "order") if (params.get(name) or "x").isspace()
    ]
    problems += [f"The page position '{name}' is invalid." for name in CURSORS if not _is_id(params.get(name))]
    chosen: dict[str, str | datetime] = {TEXTS[name]: values[name] for name in TEXTS if values.get(name)}
    for name, ours in TIMES.items():
        if values.get(name):
            moment = _moment(values[name])
            if moment is None:
                problems.append(f"'{values[name][:40]}' is not a valid time. Use 2026-03-01 or 2026-03-01T14:30 (UTC).")
            else:
                chosen[ours] = moment
    status = values.get(STATUS) or DeadLetterStatus.DEAD
    if status != ALL and not problems:
        chosen["status"] = status
    selection = DeadLetterFilter(**({} if problems else chosen))  # type: ignore[arg-type]  # by the names above
    if selection.created_after and selection.created_before and selection.created_after >= selection.created_before:
        problems.append("The end of the time range is before its start.")
    return Reading(selection, values, tuple(problems))


def filter_labels(reading: Reading) -> list[tuple[str, str, str]]:
    """Return the active filters as (parameter, label, value as text)."""
    names = {
        "error_code": "code",
        SEARCH: "search",
        "fingerprint": "failure group",
        "after": "first failed after",
        "before": "first failed before",
    }
    values = {name: reading.values[name] for name in (*TEXTS, *TIMES) if reading.values.get(name)}
    if "reason" in values:
        values["reason"] = reason_label(values["reason"]) or values["reason"]
    return [(name, names.get(name, name), value) for name, value in values.items()]


def _wrong(name: str, value: str) -> str:
    if "\x00" in value or any("\ud800" <= one <= "\udfff" for one in value):
        return f"The filter '{name}' holds an invalid character."
    if len(value) > LIMIT:
        return f"The filter '{name}' is longer than {LIMIT} characters."
    if name in CHOICES and value not in CHOICES[name]:
        return f"'{value[:40]}' is not a valid {name.removesuffix('__exact')}."
    return ""


def _is_id(text: str | None) -> bool:
    try:
        return not text or bool(UUID(text))
    except ValueError:
        return False


def _moment(text: str) -> datetime | None:
    """Parse an ISO 8601 time, in UTC if it names no zone, or a date as the start of the day."""
    try:
        moment = parse_datetime(text)
        if moment is None:
            day = parse_date(text)
            moment = datetime.combine(day, time()) if day else None
        if moment is None:
            return None
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
