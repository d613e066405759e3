"""Records n8n's executions: one row per execution and lane, however often it is reported."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from reliability.models import ExecutionStatus
from reliability.models.ids import uuid7

ENDED = (ExecutionStatus.SUCCESS, ExecutionStatus.ERROR, ExecutionStatus.CRASHED, ExecutionStatus.CANCELED)
INSERT = """
INSERT INTO reliability_execution AS e
    (id, lane_id, delivery_id, execution_id, status, duration_ms, settled, reported_at)
VALUES (%(id)s, %(lane)s, %(delivery)s, %(execution)s, %(status)s, %(duration)s, %(settled)s, %(now)s)
ON CONFLICT (execution_id, lane_id) DO UPDATE SET
    delivery_id = coalesce(excluded.delivery_id, e.delivery_id), reported_at = excluded.reported_at,
"""
# A late report of the time when it was running does not undo its end. `xmax = 0`: the row was inserted, not updated.
RECORD = (
    INSERT
    + """
    status = CASE WHEN e.status = ANY(%(ended)s) AND excluded.status <> ALL(%(ended)s)
        THEN e.status ELSE excluded.status END,
    duration_ms = coalesce(excluded.duration_ms, e.duration_ms), settled = e.settled OR excluded.settled
RETURNING xmax = 0
"""
)
# No row comes back if the same end was settled before: then the report is a repetition.
SETTLE = (
    INSERT
    + """
    status = excluded.status, settled = true
WHERE NOT (e.settled AND e.delivery_id IS NOT DISTINCT FROM excluded.delivery_id
    AND (e.status = 'success') = (excluded.status = 'success'))
RETURNING id
"""
)


def record(  # the columns of one row
    *,
    lane_id: int,
    execution_id: str,
    status: str,
    now: datetime,
    delivery_id: UUID | None = None,
    duration_ms: int | None = None,
    settled: bool = False,
) -> bool:
    """Record an execution's status; return whether it was not known before."""
    row = _run(RECORD, lane_id, execution_id, status, now, delivery_id, duration_ms, settled=settled)
    return bool(row and row[0])


def settle(*, lane_id: int, execution_id: str, status: str, now: datetime, delivery_id: UUID) -> bool:
    """Record an execution's end, which the caller applies to its delivery; return whether it is new."""
    return _run(SETTLE, lane_id, execution_id, status, now, delivery_id, None, settled=True) is not None


def _run(  # noqa: PLR0913  # the columns of one row
    statement: str,
    lane_id: int,
    execution_id: str,
    status: str,
    now: datetime,
    delivery_id: UUID | None,
    duration_ms: int | None,
    *,
    settled: bool = False,
) -> "tuple[object, ...] | None":
    values: dict[str, Any] = {
        "id": uuid7(),
        "lane": lane_id,
        "delivery": delivery_id,
        "execution": execution_id,
        "status": str(status),
        "duration": duration_ms,
        "settled": settled,
        "now": now,
        "ended": [str(one) for one in ENDED],
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row: tuple[object, ...] | None = cursor.fetchone()
    return row
