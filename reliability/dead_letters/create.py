"""Creates dead letters that have no delivery: failures that applications report by the API, and n8n by its Error
Trigger.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from reliability.core import known_secrets
from reliability.errors import UnknownWorkflow
from reliability.lanes import opening
from reliability.models import (
    DeadLetter,
    DeadLetterSource,
    DeadLetterStatus,
    FailureReport,
    Lane,
    Workflow,
    error_fields,
)
from reliability.policies.error_codes import ErrorCode
from reliability.policies.failure import Failure


@dataclass(frozen=True, slots=True)
class Report:
    """A failure that an application reports; `payload` is JSON text."""

    workflow: str
    tenant: str
    payload: str
    error_message: str
    error_code: str = ""


def from_api(*, report: Report, now: datetime) -> DeadLetter:
    """Create a dead letter of source `api`, with known secrets redacted from its message. Raises `UnknownWorkflow`."""
    workflow = Workflow.objects.filter(slug=report.workflow).first()
    if workflow is None:
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{report.workflow}'."]})
    message = known_secrets.redactor(workflow).text(report.error_message)
    with transaction.atomic():
        lane = opening.open_lane(workflow_id=workflow.pk, tenant=report.tenant)
        lane.workflow = workflow
        return DeadLetter.objects.create(
            lane=lane,
            source=DeadLetterSource.API,
            payload=report.payload,
            **error_fields(code=report.error_code, message=message),
            created_at=now,
            died_at=now,
            expires_at=now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
        )


def create_dead_letter(*, report: FailureReport, workflow: Workflow, now: datetime) -> DeadLetter:
    """Create a dead letter of source `n8n` in the lane of its workflow, or return the one that its execution has."""
    lane = opening.open_lane(workflow_id=workflow.pk, tenant=report.for_tenant)
    # Two API keys may report the same execution at once, and no constraint covers that. With the lane locked, the
    # second one finds the first one's dead letter.
    Lane.objects.select_for_update(no_key=True).get(pk=lane.pk)
    known = FailureReport.objects.filter(execution_id=report.execution_id, dead_letter__lane=lane)
    same = known.exclude(execution_id="").select_related("dead_letter").first()
    if same is not None and same.dead_letter is not None:
        return same.dead_letter
    return DeadLetter.objects.create(
        lane=lane,
        source=DeadLetterSource.N8N,
        payload=report.report,
        **error_fields(code=report.error_code, message=report.error_message),
        execution_id=report.execution_id,
        execution_url=report.execution_url,
        created_at=now,
        died_at=now,
        expires_at=now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
    )


def merge_repeated_trigger_failure(failure: Failure, tenant: str, *, now: datetime) -> FailureReport | None:
    """Count a repeated failure to start a trigger on its dead letter; return that one's report, or `None`.

    n8n retries a trigger that it cannot start, and reports each failure without an execution id.
    """
    if failure.execution_id or failure.code != ErrorCode.TRIGGER_FAILED:
        return None
    # Without an execution id there is no row or constraint to conflict on. The advisory lock makes two reports of the
    # same trigger go one after the other, until the end of the transaction.
    with connection.cursor() as cursor:
        names = f"trigger:{tenant}:{failure.workflow_id}:{failure.workflow_name}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [names])
    wanted = {"n8n_workflow_id": failure.workflow_id, "n8n_workflow_name": failure.workflow_name}
    dead = FailureReport.objects.filter(**wanted, error_code=failure.code, error_message=failure.message)
    dead = dead.filter(execution_id="", for_tenant=tenant, dead_letter__status=DeadLetterStatus.DEAD)
    found = dead.order_by("-id").first()
    if found is not None and found.dead_letter_id is not None:
        letters = DeadLetter.objects.dead().filter(pk=found.dead_letter_id)
        letters.update(retry_count=F("retry_count") + 1, died_at=now)
    return found
