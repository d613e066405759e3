"""Wake-ups of lanes and of bulk operations, written in the transaction that makes them necessary."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

# The first key of the lanes' advisory locks; the second is the lane's id. Any number that no other program uses.
LANE_LOCK = 1_112_757_840


def wake(*, lane_ids: Iterable[int]) -> None:
    """Plan a check of these lanes as soon as the current transaction commits."""
    # Sorted, as everything that locks several lanes (`core.lock_order`).
    _call("SELECT backstop_wake(lane) FROM unnest(%s::int[]) AS lane", [sorted(set(lane_ids))])


def wake_at(*, lane_id: int, at: datetime) -> None:
    """Plan a check of the lane at `at`, unless an earlier one is planned already."""
    _call("SELECT backstop_wake_at(%s, %s)", [lane_id, at])


def wake_waiting(*, workflow_id: Any = None) -> None:
    """Wake every lane, or every lane of a workflow, that has an unfinished delivery."""
    _call(
        "SELECT backstop_wake(waiting.id) FROM (SELECT lane.id FROM reliability_lane lane"
        " WHERE (%(workflow)s::uuid IS NULL OR lane.workflow_id = %(workflow)s::uuid)"
        " AND EXISTS (SELECT 1 FROM reliability_delivery"
        " WHERE lane_id = lane.id AND state IN ('pending', 'sending', 'awaiting_callback'))"
        " ORDER BY lane.id) AS waiting",
        {"workflow": workflow_id},
    )


def requeue(*, lane_id: int, wait: timedelta) -> None:
    """Plan a check of the lane after `wait`, by any worker. For a dispatcher that leaves the lane."""
    # Takes no lock of the lane: it is called outside a transaction and relies on no other wake-up, so there is nothing
    # that the barrier would have to wait for.
    _call("SELECT backstop_requeue(%s, %s)", [lane_id, wait])


def try_barrier(*, lane_id: int) -> bool:
    """Return whether every transaction that relied on a wake-up of this lane has ended. Never waits.

    If it returns `True`, no other transaction can rely on a wake-up until the current one ends (outside a transaction:
    until this statement ends).
    """
    # The exclusive lock conflicts with the shared ones of transactions that rely on a wake-up. `try`: a transaction
    # that hangs must not stop the dispatcher of all lanes.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LANE_LOCK, lane_id])
        return bool(cursor.fetchone()[0])


def plan_operation_step(*, operation_id: UUID, at: datetime) -> None:
    """Plan a bulk operation's next step at `at`, and a fallback a little later in case the worker dies."""
    _call("SELECT backstop_wake_operation(%s, %s)", [operation_id, at])


def plan_operation_fallback(*, operation_id: UUID, at: datetime) -> None:
    """Plan only the fallback of a bulk operation, a little after `at`: the step itself is planned elsewhere."""
    _call("SELECT backstop_wake_operation_standby(%s, %s)", [operation_id, at])


def delete_wakeups(*, lane_ids: Iterable[int]) -> None:
    """Delete the wake-ups of lanes that are about to be deleted."""
    _call(
        "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND task_name = 'dispatch'"
        " AND (args ->> 'lane_id')::int = ANY(%s)",
        [list(lane_ids)],
    )


def _call(statement: str, parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
