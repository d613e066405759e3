"""Ingests the failures that n8n reports, each once: attached to the delivery that caused it, or as a dead letter.

The delivery is named by the reporter, known from an earlier report of the same execution, or looked up in n8n
(`delivery_lookup`).
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
class IncomingFailure:
    """A reported failure. `report` is JSON text; `tenant` is that of the API key, empty for a key of all tenants.

    `for_tenant` is the tenant of a dead letter made of it; `delivery_id` and `attempt` are its cause as the reporter
    names it. `looked_up`: n8n has been asked for the cause already.
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
def ingest(*, incoming: IncomingFailure, now: datetime) -> tuple[FailureReport, bool]:
    """Store a failure; return its report, and whether it is new. This does not call n8n.

    Raises `NotFound`, and stores nothing, if it is about another tenant's delivery.
    """
    incoming = _redacted(incoming)
    with transaction.atomic():
        # Before anything is stored: a report about another tenant's delivery leaves no trace.
        delivery = _causing_delivery(incoming)
        repeated = create.merge_repeated_trigger_failure(incoming.failure, incoming.for_tenant, now=now)
        if repeated is not None:
            return repeated, False
        report = _new_report(incoming, now)
        # Of two concurrent reports of one execution, the insert of one has no effect (unique constraint).
        FailureReport.objects.bulk_create([report], ignore_conflicts=True)
        if not FailureReport.objects.filter(pk=report.pk).exists():
            return _existing(report), False
        _assign(report, delivery, now, may_ask=not incoming.looked_up)
    _log(report)
    return report, True


def attach_to_delivery(*, report: FailureReport, delivery: Delivery, now: datetime) -> None:
    """Record a stored failure as the result of the delivery that caused it."""
    # Lock order: the lane first, then the delivery, which is read again because it may have changed.
    lane = lane_lock.lock(lane_id=delivery.lane_id)
    delivery = Delivery.objects.select_for_update(no_key=True).get(pk=delivery.pk)
    delivery.lane = lane
    report.delivery, report.state, report.look_up_at = delivery, ReportState.JOINED, None
    report.save(update_fields=["delivery", "state", "look_up_at", "attempt"])
    correlation.record_results(lane=lane, delivery=delivery, result=result_of(report), now=now)


def create_dead_letter(*, report: FailureReport, now: datetime, note: str = "") -> None:
    """Turn a failure without a delivery into a dead letter; `note` is appended to its message."""
    if note:
        report.error_message = f"{report.error_message} ({note})"
    workflow = workflow_matching.find_or_create(n8n_id=report.n8n_workflow_id, name=report.n8n_workflow_name)
    report.dead_letter = create.create_dead_letter(report=report, workflow=workflow, now=now)
    report.state, report.look_up_at = ReportState.BURIED, None
    report.save(update_fields=["dead_letter", "state", "look_up_at", "error_message"])
    _record_execution(report, report.dead_letter, now)


def refuse(*, report: FailureReport) -> None:
    """Refuse a failure that belongs to another tenant."""
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


def dead_letter_id_of(report: FailureReport) -> UUID | None:
    """Return the id of a report's dead letter, or `None`."""
    if report.dead_letter_id is not None or report.delivery is None:
        return report.dead_letter_id
    letter = correlation.dead_letter_of(report.delivery)
    return letter.pk if letter else None


def dead_letter_for(*, execution_id: str, tenant: str) -> DeadLetter | None:
    """Return the dead letter of an execution, among those that an API key of `tenant` may see."""
    reports = FailureReport.objects.filter(execution_id=execution_id).select_related("delivery").order_by("id")[:10]
    # By the execution that Backstop requested, then by the one that it retried, then by earlier reports: n8n gives each
    # retry a new execution id, and a retry of a retry refers only to the one before.
    letters = [
        *(one.dead_letter for one in ExecutionRetry.objects.filter(new_execution_id=execution_id)[:1]),
        *(one.dead_letter for one in ExecutionRetry.objects.filter(execution_id=execution_id)[:1]),
        *DeadLetter.objects.filter(pk__in=[pk for one in reports if (pk := dead_letter_id_of(one))]),
    ]
    return next((one for one in letters if one is not None and tenant in ("", one.lane.tenant)), None)


def _causing_delivery(incoming: IncomingFailure) -> Delivery | None:
    """Return the delivery that the reporter names, or that is known for the execution.

    A named delivery that does not exist (any more) is ignored, so that the failure is not lost. For a key of one
    tenant it raises `NotFound`: the answer must not tell whether the delivery is another tenant's.
    """
    known = _known_deliveries(incoming.failure.execution_id)
    reachable = [one for one in known if incoming.tenant in ("", one.lane.tenant)]
    if incoming.delivery_id is None:
        if known and not reachable:
            raise _refusal(incoming)
        return reachable[0] if len(reachable) == 1 else None
    named = Delivery.objects.select_related("lane").filter(pk=incoming.delivery_id).first()
    if named is None and not incoming.tenant:
        return reachable[0] if len(reachable) == 1 else None
    if named is None or incoming.tenant not in ("", named.lane.tenant) or (known and not reachable):
        raise _refusal(incoming)
    return named


def _known_deliveries(execution_id: str) -> list[Delivery]:
    """Return the deliveries that were reported for an execution. If there are several, none can be trusted."""
    if not execution_id:
        return []
    rows = Execution.objects.filter(execution_id=execution_id, delivery__isnull=False)
    found = [one.delivery for one in rows.select_related("delivery__lane").order_by("id")[:10]]
    return [one for one in found if one is not None]


def _refusal(incoming: IncomingFailure) -> NotFound:
    fields = {"tenant": incoming.tenant, "execution": incoming.failure.execution_id}
    logger.warning("failure_report_refused", extra={**fields, "delivery": str(incoming.delivery_id or "")})
    return NotFound("There is no such delivery.")


def _new_report(incoming: IncomingFailure, now: datetime) -> FailureReport:
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


def _redacted(incoming: IncomingFailure) -> IncomingFailure:
    """Redact known secrets from the message and the report: n8n's errors may quote request headers."""
    redactor = known_secrets.redactor_of_all()
    failure = replace(incoming.failure, message=redactor.text(incoming.failure.message))
    return replace(incoming, failure=failure, report=redactor.text(incoming.report))


def _existing(report: FailureReport) -> FailureReport:
    same = {"execution_id": report.execution_id, "tenant": report.tenant, "n8n_workflow_id": report.n8n_workflow_id}
    return FailureReport.objects.select_related("delivery").get(**same)


def _assign(report: FailureReport, delivery: Delivery | None, now: datetime, *, may_ask: bool) -> None:
    # A failed execution retry belongs to the dead letter of the retried execution, even if its delivery is known: the
    # delivery has ended.
    if delivery is not None and not report.retry_of:
        attach_to_delivery(report=report, delivery=delivery, now=now)
    elif _attach_execution_retry(report, now):
        return
    elif delivery is not None:
        attach_to_delivery(report=report, delivery=delivery, now=now)
    elif may_ask and settings.N8N_API_KEY and report.execution_id:
        report.look_up_at = now
        report.save(update_fields=["look_up_at"])
        queue.look_up(report_id=report.pk)
    else:
        create_dead_letter(report=report, now=now)


def _attach_execution_retry(report: FailureReport, now: datetime) -> bool:
    """Attach the failure of an execution retry to the dead letter of the retried execution, if there is one."""
    if not report.retry_of:
        return False
    letter = dead_letter_for(execution_id=report.retry_of, tenant=report.tenant)
    if letter is None:
        return False
    # Lock order: lane, execution, dead letter (`execution_retry._record`).
    lane_lock.lock(lane_id=letter.lane_id)
    report.dead_letter, report.delivery_id = letter, letter.delivery_id
    report.state, report.look_up_at = ReportState.JOINED, None
    report.save(update_fields=["dead_letter", "delivery", "state", "look_up_at"])
    _record_execution(report, letter, now)
    execution_retry_end.record_failure(letter=letter, report=report, now=now)
    return True


def _record_execution(report: FailureReport, letter: DeadLetter, now: datetime) -> None:
    if report.execution_id:
        executions.record(
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
