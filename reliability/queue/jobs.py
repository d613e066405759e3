"""Jobs that ask n8n or send a notice of alerts, planned in the transaction that makes them necessary."""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import JobDeferrer
from procrastinate.manager import JobManager

from . import tasks

# In a worker the app has a connection of its own, on which a job would be seen before the rows that it is about.
_in_transaction = JobManager(DjangoConnector())


def look_up(*, report_id: UUID, at: datetime | None = None) -> None:
    """Have a failure's execution looked up in n8n, at `at` or at once."""
    _defer(tasks.look_up, f"look-up:{report_id}", at, report_id=str(report_id))


def retry_execution(*, retry_id: UUID, at: datetime | None = None, is_fallback: bool = False) -> None:
    """Have a retry by n8n asked for, or looked after, at `at` or at once.

    One that stands by, for the case that a worker dies, keeps no earlier one from being planned.
    """
    key = f"retry-stand-by:{retry_id}" if is_fallback else f"retry:{retry_id}"
    _defer(tasks.retry_execution, key, at, retry_id=str(retry_id))


def notify(*, notice_id: UUID, at: datetime | None = None, is_fallback: bool = False, is_overdue: bool = False) -> None:
    """Have a notice of alerts sent, or looked after, at `at` or at once; `is_fallback` as with `retry`.

    For one that is overdue, nothing that is planned for it already is relied on.
    """
    kind = "tell-stand-by" if is_fallback else "tell-overdue" if is_overdue else "tell"
    key = f"{kind}:{notice_id}"
    _defer(tasks.send_notice, key, at, notice_id=str(notice_id))


def _defer(task: Any, key: str, at: datetime | None, **arguments: str) -> None:
    """Plan a job in the current transaction, unless one of that key waits already."""
    when = at - tasks.LEAD if at is not None else None
    moment = at.timestamp() if at is not None else None
    job = task.configure(queueing_lock=key, schedule_at=when).job
    with suppress(AlreadyEnqueued), transaction.atomic():
        JobDeferrer(job=job, job_manager=_in_transaction).defer(**arguments, at=moment)
