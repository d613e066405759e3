"""Takes in what failed for good elsewhere: a dead letter without a delivery of ours."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from reliability.errors import UnknownWorkflow
from reliability.models import DeadLetter, DeadLetterSource, Workflow

from . import intake


@dataclass(frozen=True, slots=True)
class Report:
    """What failed; `payload` is JSON text."""

    workflow: str
    tenant: str
    payload: str
    error_message: str
    error_code: str = ""


def report(*, report: Report, now: datetime) -> DeadLetter:
    """Keep a dead letter of source `api`. Raises `UnknownWorkflow`."""
    workflow = Workflow.objects.filter(slug=report.workflow).first()
    if workflow is None:
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{report.workflow}'."]})
    with transaction.atomic():
        lane = intake.open_lane(workflow_id=workflow.pk, tenant=report.tenant)
        lane.workflow = workflow
        return DeadLetter.objects.create(
            lane=lane,
            source=DeadLetterSource.API,
            payload=report.payload,
            error_code=report.error_code,
            error_message=report.error_message,
            created_at=now,
            died_at=now,
            expires_at=now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
        )
