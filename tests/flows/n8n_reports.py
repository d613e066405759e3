"""What a worker does with what n8n reported, done at once."""

from procrastinate.contrib.django.models import ProcrastinateJob

from reliability.core import clock
from reliability.models import (
    ExecutionRetry,
    FailureReport,
)
from reliability.n8n import delivery_lookup, execution_retry


def look() -> FailureReport:
    """Do what a worker does for the newest report."""
    report = FailureReport.objects.first()
    delivery_lookup.look_up(report_id=report.pk)
    report.refresh_from_db()
    return report


def looks() -> int:
    """Count the jobs that wait to look the newest report up."""
    wanted = {"task_name": "look_up", "status": "todo", "args__report_id": str(FailureReport.objects.first().pk)}
    return ProcrastinateJob.objects.filter(**wanted).count()


def work(now=True) -> ExecutionRetry:
    """Do what a worker does for the newest retry."""
    one = ExecutionRetry.objects.first()
    if now:
        ExecutionRetry.objects.filter(pk=one.pk).update(due_at=clock.now())
    execution_retry.process(retry_id=one.pk)
    one.refresh_from_db()
    return one


def headers(delivery, attempt=1) -> dict[str, str]:
    return {"x-backstop-delivery": str(delivery.pk), "x-backstop-attempt": str(attempt)}
