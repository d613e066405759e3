"""Takes in what failed for good elsewhere: a dead letter without a delivery of ours.

Applications report such a thing by the API, n8n by its Error Trigger.
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
from reliability.policies.failure import Failure


@dataclass(frozen=True, slots=True)
class Report:
    """What failed; `payload` is JSON text."""

    workflow: str
    tenant: str
    payload: str
    error_message: str
    error_code: str = ""


def report(*, report: Report, now: datetime) -> DeadLetter:
    """Keep a dead letter of source `api`, without what its message repeats of our secrets. Raises `UnknownWorkflow`."""
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
    """Keep a failed execution as a dead letter of source `n8n`, in the lane of its workflow; once per execution."""
    lane = opening.open_lane(workflow_id=workflow.pk, tenant=report.for_tenant)
    # Two keys may report the same execution: the lane's lock puts one behind the other.
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


def same_trouble(failure: Failure, tenant: str, *, now: datetime) -> FailureReport | None:
    """Return the report of a trigger that n8n keeps trying to start, where its trouble is in the queue already."""
    if failure.execution_id or failure.code != "trigger_failed":
        return None
    # Nothing but this lock puts one behind the other: they name no execution.
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
