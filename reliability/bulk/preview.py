"""The preview of a bulk operation: what it would include and what it would skip."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, TextField, Value, When

from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import DeadLetter, Lane, OperationKind
from reliability.policies import bulk

from . import candidates

SAMPLES = 5
PURGES_PER_SECOND = 10_000


@dataclass(frozen=True, slots=True)
class Preview:
    """What an operation would do. `skipped` counts by cause; `by_workflow` and `by_reason` count matches, most first.

    `will` is the number that it would process, `samples` are the first of them, without payloads; `seconds` is the
    expected duration.
    """

    matched: int
    will: int
    skipped: dict[str, int] = field(default_factory=dict)
    by_workflow: dict[str, int] = field(default_factory=dict)
    by_reason: dict[str, int] = field(default_factory=dict)
    samples: Sequence[DeadLetter] = ()
    seconds: float = 0.0

    @property
    def skipped_count(self) -> int:
        return self.matched - self.will


def preview(
    *, kind: OperationKind, selection: DeadLetterFilter, now: datetime, rate_per_second: float = 5.0
) -> Preview:
    """Return what an operation submitted now would do."""
    found = candidates.matching(kind=kind, filter_json=selection.as_json(), cutoff=now)
    conditions = candidates.skip_conditions() if kind == OperationKind.REPLAY else {}
    rows = _counted(found, conditions)
    skipped = _totals_by(rows, "cause")
    skipped.pop("", None)
    matched = sum(row["rows"] for row in rows)
    will = matched - sum(skipped.values())
    rate = rate_per_second if kind == OperationKind.REPLAY else PURGES_PER_SECOND
    for condition in conditions.values():
        found = found.exclude(condition)
    return Preview(
        matched=matched,
        will=will,
        skipped=skipped,
        by_workflow=_totals_by(rows, "workflow"),
        by_reason=_totals_by(rows, "reason"),
        samples=list(found.select_related("lane__workflow").defer("payload").order_by("id")[:SAMPLES]),
        seconds=bulk.seconds(count=will, rate_per_second=rate),
    )


def _counted(found: Any, conditions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return counts by lane, reason and cause, in one pass over the matching rows."""
    # One CASE instead of a count per cause: the conditions exclude each other.
    whens = [When(condition, then=Value(cause)) for cause, condition in conditions.items()]
    cause = Case(*whens, default=Value(""), output_field=TextField())
    rows = found.order_by().values("lane_id", "reason").annotate(cause=cause, rows=Count("pk"))
    workflows = dict(Lane.objects.values_list("pk", "workflow__slug"))
    return [{**row, "workflow": workflows.get(row["lane_id"], "")} for row in rows]


def _totals_by(rows: list[dict[str, Any]], name: str) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row[name]] += row["rows"]
    return dict(totals.most_common())
