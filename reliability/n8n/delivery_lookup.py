"""Asks n8n which delivery a failed execution began with, and settles its report by the answer.

The report's row is the truth: it waits as `looking_up`, with the time of its next look. A job per look wakes this
module; a lost one is found again by `n8n_reconcile`.
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

LOOKS = 10
PATIENCE = timedelta(hours=1)
BASE_DELAY_MS, MAX_DELAY_MS = 2_000, 600_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a look brought: an origin, or none; `note` says why none can be found, `again` that it may yet be."""

    origin: Origin | None = None
    workflow_id: str = ""
    note: str = ""
    again: bool = False


def look_up(*, report_id: UUID) -> None:
    """Look a report's execution up, and settle the report. Doing it twice does it once."""
    report = FailureReport.objects.filter(pk=report_id, state=ReportState.LOOKING_UP).first()
    if report is None:
        return
    found = _ask(report.execution_id)
    now = clock.now()
    try:
        with lock_waits.transaction_with_lock_timeout():
            open_one = FailureReport.objects.select_for_update(no_key=True)
            kept = open_one.filter(pk=report_id, state=ReportState.LOOKING_UP).first()
            if kept is not None:
                _settle(kept, found, now)
    except DatabaseError as error:
        if not lock_waits.is_conflict(error):
            raise
        queue.look_up(report_id=report_id, at=now + lock_waits.CONFLICT_RETRY_DELAY)


def _ask(execution_id: str) -> Found:
    try:
        execution = n8n_client.execution(execution_id=execution_id, with_data=True)
    except n8n_client.NotThere:
        return Found()  # n8n does not keep it, or no more: there is nothing to wait for
    except n8n_client.NotReached as error:
        return Found(note=error.detail, again=True)
    except n8n_client.N8nError as error:
        # A key that was refused may be put right within the time that is given anyway.
        return Found(note=error.detail, again=isinstance(error, n8n_client.Unauthorised))
    return Found(origin_of(execution.document), execution.workflow_id)


def _settle(report: FailureReport, found: Found, now: datetime) -> None:
    report.lookups += 1
    if found.again and report.lookups < LOOKS and now - report.reported_at < PATIENCE:
        _look_again(report, found, now)
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
        failure_reports.join(report=report, delivery=delivery, now=now)


def _look_again(report: FailureReport, found: Found, now: datetime) -> None:
    wait = backoff.delay(
        k=report.lookups - 1, base_delay_ms=BASE_DELAY_MS, max_delay_ms=MAX_DELAY_MS, jitter_factor=0, jitter=0
    )
    report.look_up_at = now + wait
    report.save(update_fields=["lookups", "look_up_at"])
    queue.look_up(report_id=report.pk, at=report.look_up_at)
    fields = {"report": str(report.pk), "lookups": report.lookups, "wait_s": wait.total_seconds()}
    logger.warning("look_up_later", extra={**fields, "reason": found.note})


def delivery_of(*, origin: Origin | None, workflow_id: str) -> Delivery | None:
    """Return the delivery, unless the execution is another workflow's: a header proves nothing by itself."""
    if origin is None:
        return None
    delivery = Delivery.objects.select_related("lane__workflow").filter(pk=origin.delivery_id).first()
    if delivery is None:
        return None
    known = delivery.lane.workflow.n8n_workflow_id
    return delivery if not known or not workflow_id or known == workflow_id else None


def wake_stuck(*, now: datetime) -> int:
    """Wake the looks that are overdue, whose jobs were lost; return how many."""
    overdue = FailureReport.objects.filter(state=ReportState.LOOKING_UP, look_up_at__lt=now - timedelta(minutes=1))
    ids = list(overdue.values_list("pk", flat=True))
    for report_id in ids:
        queue.look_up(report_id=report_id)
    return len(ids)
