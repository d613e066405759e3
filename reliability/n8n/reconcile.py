"""Finds failures that n8n did not report: executions that crashed, failed or hang.

Compares n8n's executions with the stored failure reports, and ingests missing ones as if they had been reported. Dead
letters whose execution was retried in n8n with success recover, and lookups and retries that lost their job get one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.delivery import correlation
from reliability.delivery.correlation import ExecutionResult
from reliability.lanes import lane_lock
from reliability.models import (
    DEFAULT_TENANT,
    DeadLetter,
    DeadLetterStatus,
    Delivery,
    FailureReport,
    ReportOrigin,
    ReportState,
    error_fields,
)
from reliability.policies import failure
from reliability.policies.error_codes import ErrorCode
from reliability.policies.failure import Failure

from . import client as n8n_client
from . import delivery_lookup, execution_retry, failure_reports, workflow_matching
from .client import N8nExecution
from .failure_reports import IncomingFailure

HUNG = "execution_hung"
CODES = {"error": ErrorCode.EXECUTION_FAILED, "crashed": ErrorCode.EXECUTION_CRASHED, "running": HUNG}
MANUAL_MODE = "manual"


@dataclass(frozen=True, slots=True)
class Window:
    """What to examine: executions of the last `hours`; one that runs for `hung_after` hangs.

    `everything` includes executions of workflows that Backstop does not know.
    """

    hours: float = 72
    hung_after: timedelta = timedelta(hours=1)
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """The result for one execution."""

    execution_id: str
    workflow: str
    status: str
    result: str


def run(*, window: Window, actor: Actor, now: datetime, dry_run: bool = False) -> list[Line]:
    """Ingest what was missed; return a line for each execution that needed something.

    Raises `N8nError`. With `dry_run`, nothing is written.
    """
    names = {one.id: one.name for one in n8n_client.workflows()}
    lines = [line for one in _candidates(window, now) if (line := _process(one, names, window, now, dry_run))]
    hung = DeadLetter.objects.dead().filter(error_code=HUNG).exclude(execution_id="").select_related("lane__workflow")
    lines += [line for letter in list(hung) if (line := _recheck(letter, now, dry_run))]
    if not dry_run:
        woken = delivery_lookup.wake_overdue(now=now) + execution_retry.wake_overdue(now=now)
        details = {"hours": window.hours, "woken": woken}
        audit.record(actor=actor, action="n8n_reconcile", now=now, count=len(lines), details=details)
    return lines


def _candidates(window: Window, now: datetime) -> Iterator[N8nExecution]:
    since = now - timedelta(hours=window.hours)
    for status in ("crashed", "error", "running"):
        for one in n8n_client.executions(status=status, started_after=since):
            # Manual executions are left out: whoever runs a workflow in the editor sees its failure there.
            hangs = one.started_at is not None and one.started_at < now - window.hung_after
            if one.mode != MANUAL_MODE and (status != "running" or hangs):
                yield one


def _process(one: N8nExecution, names: dict[str, str], window: Window, now: datetime, dry_run: bool) -> Line | None:
    name = names.get(one.workflow_id, "")
    known = FailureReport.objects.filter(execution_id=one.id).order_by("id").first()
    # Also for one that is known: it may have been retried in n8n after it was reported.
    if one.retry_success_id:
        return _recover_retried(one, known, name, now, dry_run)
    if known is not None:
        return None
    incoming = _incoming(one, name, window)
    if incoming is None:
        return None
    line = Line(one.id, name or one.workflow_id, "hung" if one.status == "running" else one.status, "missing")
    if dry_run:
        return line
    report, _ = failure_reports.ingest(incoming=incoming, now=now)
    return Line(line.execution_id, line.workflow, line.status, report.state)


def _incoming(listed: N8nExecution, name: str, window: Window) -> IncomingFailure | None:
    """Return an execution's failure as if it had been reported, or `None` if it is no concern of Backstop's."""
    # The list leaves out the data that names the origin and the error.
    try:
        one = n8n_client.execution(execution_id=listed.id, with_data=True)
    except n8n_client.UnknownToN8n:
        return None
    origin = failure.origin_of(one.document)
    delivery = delivery_lookup.delivery_of(origin=origin, workflow_id=one.workflow_id)
    ours = workflow_matching.find(n8n_id=one.workflow_id, name=name) is not None
    if delivery is None and not ours and not window.everything:
        return None
    found = _failure(one, name)
    return IncomingFailure(
        failure=found,
        report=failure.shorten(_error_trigger_body(one, found)),
        for_tenant=delivery.lane.tenant if delivery else DEFAULT_TENANT,
        delivery_id=delivery.pk if delivery else None,
        attempt=origin.attempt if origin and delivery else None,
        origin=ReportOrigin.RECONCILED,
        looked_up=True,
    )


def _failure(one: N8nExecution, name: str) -> Failure:
    code = CODES.get(one.status, ErrorCode.EXECUTION_FAILED)
    fallbacks = {
        ErrorCode.EXECUTION_CRASHED: "n8n stopped during the execution.",
        HUNG: f"Running since {one.started_at:%F %T} UTC.",
    }
    error = one.error or {"message": fallbacks.get(code, "")}
    return Failure(
        workflow_id=one.workflow_id,
        workflow_name=name,
        code=code,
        message=failure.describe(one.node, error),
        execution_id=one.id,
        execution_url=f"{n8n_client.api_url().removesuffix('/api/v1')}/workflow/{one.workflow_id}/executions/{one.id}",
        retry_of=one.retry_of,
        status=one.status,
        mode=one.mode,
        node=one.node,
    )


def _error_trigger_body(one: N8nExecution, found: Failure) -> dict[str, object]:
    """Return the body that n8n's Error Trigger would have sent."""
    execution = {
        "id": one.id,
        "url": found.execution_url,
        "error": {"message": found.message, "name": str(one.error.get("name") or "")},
        "lastNodeExecuted": one.node,
        "mode": one.mode,
        "status": one.status,
    }
    if one.retry_of:
        execution["retryOf"] = one.retry_of
    return {"execution": execution, "workflow": {"id": one.workflow_id, "name": found.workflow_name}}


def _recover_retried(
    one: N8nExecution, known: FailureReport | None, name: str, now: datetime, dry_run: bool
) -> Line | None:
    """Recover the dead letter of an execution that was retried in n8n with success."""
    letter_id = failure_reports.dead_letter_id_of(known) if known else None
    letter = DeadLetter.objects.dead().filter(pk=letter_id, execution_id=one.id).first() if letter_id else None
    if letter is None:
        return None
    if not dry_run:
        _recover(letter, one.retry_success_id, now)
    return Line(one.id, name or one.workflow_id, "made good", "recovered" if not dry_run else "to recover")


def _recheck(letter: DeadLetter, now: datetime, dry_run: bool) -> Line | None:
    """Check an execution that hung: it may have ended since."""
    try:
        one = n8n_client.execution(execution_id=letter.execution_id, with_data=True)
    except n8n_client.UnknownToN8n:
        return None
    line = Line(one.id, letter.lane.workflow.name, one.status, "to recover" if dry_run else "recovered")
    if one.status == "success":
        if not dry_run:
            _recover(letter, one.id, now)
        return line
    if one.status in ("error", "crashed") and not dry_run:
        found = _failure(one, letter.lane.workflow.name)
        error = error_fields(code=found.code, message=found.message)
        DeadLetter.objects.dead().filter(pk=letter.pk).update(**error)
        return Line(one.id, letter.lane.workflow.name, one.status, ReportState.BURIED)
    return None


def _recover(letter: DeadLetter, execution_id: str, now: datetime) -> None:
    """Mark a dead letter as recovered, and its delivery as delivered."""
    with transaction.atomic():
        delivery_id = _delivery_of(letter)
        if delivery_id is not None:
            # Lock order: the lane first, then the delivery, then the dead letter.
            lane = lane_lock.lock(lane_id=letter.lane_id)
            delivery = Delivery.objects.select_for_update(no_key=True).get(pk=delivery_id)
            delivery.lane = lane
            correlation.record_results(
                lane=lane, delivery=delivery, result=ExecutionResult(failed=False, execution_id=execution_id), now=now
            )
        dead = DeadLetter.objects.dead().filter(pk=letter.pk)
        dead.update(status=DeadLetterStatus.RECOVERED, closed_at=now)


def _delivery_of(letter: DeadLetter) -> UUID | None:
    """Return the id of the delivery whose failure the dead letter holds now: the newest replay, or the first one."""
    newest = Delivery.objects.filter(dead_letter=letter).order_by("-id").values_list("pk", flat=True).first()
    return newest or letter.delivery_id
