"""Asks n8n which delivery started a failed execution, and assigns its failure report accordingly.

The report's row holds the state: it waits in `looking_up`, with the time of its next lookup. A job per lookup calls
this module; `n8n_reconcile` finds reports whose job was lost.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import DatabaseError

from reliability import queue
from reliability.core import clock, lock_waits
from reliability.models import Delivery, FailureReport, ReportState
from reliability.policies import backoff
from reliability.policies.failure import Origin, origin_of

from . import client as n8n_client
from . import failure_reports

MAX_LOOKUPS = 10
MAX_AGE = timedelta(hours=1)
BASE_DELAY_MS, MAX_DELAY_MS = 2_000, 600_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The answer of a lookup: the origin, or a `note` why there is none; `is_pending`: a later lookup may find it."""

    origin: Origin | None = None
    workflow_id: str = ""
    note: str = ""
    is_pending: bool = False


def look_up(*, report_id: UUID) -> None:
    """Look up a report's execution, and assign the report. Does nothing if another worker has assigned it."""
    report = FailureReport.objects.filter(pk=report_id, state=ReportState.LOOKING_UP).first()
    if report is None:
        return
    # Before the transaction: n8n may take its whole timeout, and no lock is held while it does.
    found = _query(report.execution_id)
    now = clock.now()
    try:
        with lock_waits.transaction_with_lock_timeout():
            locked = FailureReport.objects.select_for_update(no_key=True)
            current = locked.filter(pk=report_id, state=ReportState.LOOKING_UP).first()
            if current is not None:
                _settle(current, found, now)
    except DatabaseError as error:
        if not lock_waits.is_conflict(error):
            raise
        # Another session holds the row or its lane. A later try keeps this thread free for other jobs.
        queue.look_up(report_id=report_id, at=now + lock_waits.CONFLICT_RETRY_DELAY)


def _query(execution_id: str) -> LookupResult:
    try:
        execution = n8n_client.execution(execution_id=execution_id, with_data=True)
    except n8n_client.UnknownToN8n:
        return LookupResult()  # n8n did not save it, or has deleted it: waiting would not help
    except n8n_client.Unavailable as error:
        return LookupResult(note=error.detail, is_pending=True)
    except n8n_client.N8nError as error:
        # An operator may correct a refused key within `MAX_AGE`.
        return LookupResult(note=error.detail, is_pending=isinstance(error, n8n_client.Unauthorised))
    return LookupResult(origin_of(execution.document), execution.workflow_id)


def _settle(report: FailureReport, found: LookupResult, now: datetime) -> None:
    report.lookups += 1
    if found.is_pending and report.lookups < MAX_LOOKUPS and now - report.reported_at < MAX_AGE:
        _schedule_next(report, found, now)
        return
    report.save(update_fields=["lookups"])
    delivery = delivery_of(origin=found.origin, workflow_id=found.workflow_id)
    if delivery is None:
        note = f"its origin was not found: {found.note}" if found.note else ""
        failure_reports.create_dead_letter(report=report, now=now, note=note)
    elif report.tenant not in ("", delivery.lane.tenant):
        failure_reports.refuse(report=report)
    else:
        report.attempt = found.origin.attempt if found.origin else None
        failure_reports.attach_to_delivery(report=report, delivery=delivery, now=now)


def _schedule_next(report: FailureReport, found: LookupResult, now: datetime) -> None:
    wait = backoff.delay(
        k=report.lookups - 1, base_delay_ms=BASE_DELAY_MS, max_delay_ms=MAX_DELAY_MS, jitter_factor=0, jitter=0
    )
    report.look_up_at = now + wait
    report.save(update_fields=["lookups", "look_up_at"])
    queue.look_up(report_id=report.pk, at=report.look_up_at)
    fields = {"report": str(report.pk), "lookups": report.lookups, "wait_s": wait.total_seconds()}
    logger.warning("look_up_later", extra={**fields, "reason": found.note})


def delivery_of(*, origin: Origin | None, workflow_id: str) -> Delivery | None:
    """Return the delivery, unless the execution belongs to another workflow.

    The origin is a header of the request that started it, which anybody could have sent.
    """
    if origin is None:
        return None
    delivery = Delivery.objects.select_related("lane__workflow").filter(pk=origin.delivery_id).first()
    if delivery is None:
        return None
    known = delivery.lane.workflow.n8n_workflow_id
    return delivery if not known or not workflow_id or known == workflow_id else None


def wake_overdue(*, now: datetime) -> int:
    """Queue a job for each lookup that is overdue by a minute: its own was lost. Return how many."""
    overdue = FailureReport.objects.filter(state=ReportState.LOOKING_UP, look_up_at__lt=now - timedelta(minutes=1))
    ids = list(overdue.values_list("pk", flat=True))
    for report_id in ids:
        queue.look_up(report_id=report_id)
    return len(ids)
