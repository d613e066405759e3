"""Takes in the failures that n8n reports, each once: joined to the delivery that caused it, or buried.

What a report is about is said by whoever reports it (a delivery's id), known from an earlier word of the same
execution, or looked up in n8n (`lookup`).
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from reliability import queue
from reliability.core import known_secrets
from reliability.core.lock_waits import deadlocks_retried
from reliability.dead_letters import create
from reliability.delivery import correlation, executions
from reliability.delivery.correlation import ExecutionResult
from reliability.errors import NotFound
from reliability.lanes import lane_lock
from reliability.models import (
    DEFAULT_TENANT,
    DeadLetter,
    Delivery,
    Execution,
    ExecutionRetry,
    FailureReport,
    ReportOrigin,
    ReportState,
)
from reliability.policies.failure import Failure

from . import execution_retry_end, workflow_matching

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A failure as it comes in. `report` is JSON text; `tenant` is the key's, empty for a key of all tenants.

    `for_tenant` is in whose name it is buried; `delivery_id` and `attempt` are what the reporter says of its cause.
    `looked_up`: n8n has been asked for its cause already.
    """

    failure: Failure
    report: str
    tenant: str = ""
    for_tenant: str = DEFAULT_TENANT
    delivery_id: UUID | None = None
    attempt: int | None = None
    origin: str = ReportOrigin.ERROR_TRIGGER
    looked_up: bool = False


@deadlocks_retried
def ingest(*, incoming: Incoming, now: datetime) -> tuple[FailureReport, bool]:
    """Keep a failure; return its report, and whether it is new. n8n is not asked here.

    Raises `NotFound` where it is about another tenant's delivery; then nothing is kept.
    """
    incoming = _without_secrets(incoming)
    with transaction.atomic():
        delivery = _cause(incoming)
        again = create.merge_repeated_trigger_failure(incoming.failure, incoming.for_tenant, now=now)
        if again is not None:
            return again, False
        report = _row(incoming, now)
        FailureReport.objects.bulk_create([report], ignore_conflicts=True)
        if not FailureReport.objects.filter(pk=report.pk).exists():
            return _known(report), False
        _decide(report, delivery, now, may_ask=not incoming.looked_up)
    _log(report)
    return report, True


def join(*, report: FailureReport, delivery: Delivery, now: datetime) -> None:
    """Hold a kept failure against the delivery that caused it."""
    lane = lane_lock.lock(lane_id=delivery.lane_id)
    delivery = Delivery.objects.select_for_update(no_key=True).get(pk=delivery.pk)
    delivery.lane = lane
    report.delivery, report.state, report.look_up_at = delivery, ReportState.JOINED, None
    report.save(update_fields=["delivery", "state", "look_up_at", "attempt"])
    correlation.record_results(lane=lane, delivery=delivery, word=result_of(report), now=now)


def create_dead_letter(*, report: FailureReport, now: datetime, note: str = "") -> None:
    """Keep a failure that no delivery of ours caused as a dead letter of its own; `note` is added to its message."""
    if note:
        report.error_message = f"{report.error_message} ({note})"
    workflow = workflow_matching.find_or_make(n8n_id=report.n8n_workflow_id, name=report.n8n_workflow_name)
    report.dead_letter = create.create_dead_letter(report=report, workflow=workflow, now=now)
    report.state, report.look_up_at = ReportState.BURIED, None
    report.save(update_fields=["dead_letter", "state", "look_up_at", "error_message"])
    _note_execution(report, report.dead_letter, now)


def refuse(*, report: FailureReport) -> None:
    """Leave a failure alone: it is another tenant's."""
    report.state, report.look_up_at = ReportState.REFUSED, None
    report.save(update_fields=["state", "look_up_at"])
    _log(report)


def result_of(report: FailureReport) -> ExecutionResult:
    return ExecutionResult(
        failed=True,
        code=report.error_code,
        message=report.error_message,
        execution_id=report.execution_id,
        execution_url=report.execution_url,
        attempt=report.attempt,
        crashed=report.status == "crashed",
    )


def letter_id_of(report: FailureReport) -> UUID | None:
    """Return the dead letter that a report is kept in, if its failure is one."""
    if report.dead_letter_id is not None or report.delivery is None:
        return report.dead_letter_id
    letter = correlation.letter_of(report.delivery)
    return letter.pk if letter else None


def letter_for(*, execution_id: str, tenant: str) -> DeadLetter | None:
    """Return the dead letter that holds an execution's failure, among those that a key of `tenant` reaches."""
    letters = [
        *(one.dead_letter for one in ExecutionRetry.objects.filter(new_execution_id=execution_id)[:1]),
        *(one.dead_letter for one in ExecutionRetry.objects.filter(execution_id=execution_id)[:1]),
        *DeadLetter.objects.filter(pk__in=[pk for one in _reports_of(execution_id) if (pk := letter_id_of(one))]),
    ]
    return next((one for one in letters if one is not None and tenant in ("", one.lane.tenant)), None)


def _reports_of(execution_id: str) -> list[FailureReport]:
    return list(FailureReport.objects.filter(execution_id=execution_id).select_related("delivery").order_by("id")[:10])


def _cause(incoming: Incoming) -> Delivery | None:
    """Return the delivery that the reporter names, or that the execution is known to be of.

    A delivery that does not exist (any more) is no reason to lose a failure, unless the key is one tenant's: it
    learns nothing of what others have. Raises `NotFound`.
    """
    known = _known_causes(incoming.failure.execution_id)
    own = [one for one in known if incoming.tenant in ("", one.lane.tenant)]
    if incoming.delivery_id is None:
        if known and not own:
            raise _refusal(incoming)
        return own[0] if len(own) == 1 else None
    named = Delivery.objects.select_related("lane").filter(pk=incoming.delivery_id).first()
    if named is None and not incoming.tenant:
        return own[0] if len(own) == 1 else None
    if named is None or incoming.tenant not in ("", named.lane.tenant) or (known and not own):
        raise _refusal(incoming)
    return named


def _known_causes(execution_id: str) -> list[Delivery]:
    """Return the deliveries that were said to be behind an execution. More than one say nothing."""
    if not execution_id:
        return []
    rows = Execution.objects.filter(execution_id=execution_id, delivery__isnull=False)
    found = [one.delivery for one in rows.select_related("delivery__lane").order_by("id")[:10]]
    return [one for one in found if one is not None]


def _refusal(incoming: Incoming) -> NotFound:
    fields = {"tenant": incoming.tenant, "execution": incoming.failure.execution_id}
    logger.warning("failure_report_refused", extra={**fields, "delivery": str(incoming.delivery_id or "")})
    return NotFound("There is no such delivery.")


def _row(incoming: Incoming, now: datetime) -> FailureReport:
    failure = incoming.failure
    return FailureReport(
        origin=incoming.origin,
        state=ReportState.LOOKING_UP,
        tenant=incoming.tenant,
        for_tenant=incoming.for_tenant,
        execution_id=failure.execution_id,
        execution_url=failure.execution_url,
        retry_of=failure.retry_of,
        n8n_workflow_id=failure.workflow_id,
        n8n_workflow_name=failure.workflow_name,
        status=failure.status,
        mode=failure.mode,
        node=failure.node,
        error_code=failure.code,
        error_message=failure.message,
        report=incoming.report,
        attempt=incoming.attempt,
        reported_at=now,
    )


def _without_secrets(incoming: Incoming) -> Incoming:
    """Hide what n8n repeats of our secrets, in an error's words or anywhere else in the report."""
    hide = known_secrets.redactor_of_all()
    failure = replace(incoming.failure, message=hide.text(incoming.failure.message))
    return replace(incoming, failure=failure, report=hide.text(incoming.report))


def _known(report: FailureReport) -> FailureReport:
    same = {"execution_id": report.execution_id, "tenant": report.tenant, "n8n_workflow_id": report.n8n_workflow_id}
    return FailureReport.objects.select_related("delivery").get(**same)


def _decide(report: FailureReport, delivery: Delivery | None, now: datetime, *, may_ask: bool) -> None:
    if delivery is not None and not report.retry_of:
        join(report=report, delivery=delivery, now=now)
    elif _join_known(report, now):
        return
    elif delivery is not None:
        join(report=report, delivery=delivery, now=now)
    elif may_ask and settings.N8N_API_KEY and report.execution_id:
        report.look_up_at = now
        report.save(update_fields=["look_up_at"])
        queue.look_up(report_id=report.pk)
    else:
        create_dead_letter(report=report, now=now)


def _join_known(report: FailureReport, now: datetime) -> bool:
    """Join a retry's failure to the entry that holds what it was a retry of."""
    if not report.retry_of:
        return False
    letter = letter_for(execution_id=report.retry_of, tenant=report.tenant)
    if letter is None:
        return False
    lane_lock.lock(lane_id=letter.lane_id)
    report.dead_letter, report.delivery_id = letter, letter.delivery_id
    report.state, report.look_up_at = ReportState.JOINED, None
    report.save(update_fields=["dead_letter", "delivery", "state", "look_up_at"])
    _note_execution(report, letter, now)
    execution_retry_end.failed_again(letter=letter, report=report, now=now)
    return True


def _note_execution(report: FailureReport, letter: DeadLetter, now: datetime) -> None:
    if report.execution_id:
        executions.keep(
            lane_id=letter.lane_id,
            execution_id=report.execution_id,
            status=report.status,
            now=now,
            delivery_id=letter.delivery_id,
        )


def _log(report: FailureReport) -> None:
    logger.info(
        "failure_reported",
        extra={
            "report": str(report.pk),
            "state": report.state,
            "execution": report.execution_id,
            "n8n_workflow": report.n8n_workflow_id,
            "code": report.error_code,
            "delivery": str(report.delivery_id or ""),
            **({"request_id": report.delivery.request} if report.delivery else {}),
            "dead_letter": str(report.dead_letter_id or ""),
        },
    )
