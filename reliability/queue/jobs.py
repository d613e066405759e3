"""Jobs that ask n8n or send a notice, written in the transaction that makes them necessary."""

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

# Not the app's manager: in a worker that has a connection of its own, on which a job would commit before the rows that
# it refers to. Django's connection puts the job into the current transaction.
_in_transaction = JobManager(DjangoConnector())


def look_up(*, report_id: UUID, at: datetime | None = None) -> None:
    """Plan the look-up of a failure's execution in n8n, at `at` or at once."""
    _defer(tasks.look_up, f"look-up:{report_id}", at, report_id=str(report_id))


def retry_execution(*, retry_id: UUID, at: datetime | None = None, is_fallback: bool = False) -> None:
    """Plan a step of n8n's own retry of an execution (request it, or check it), at `at` or at once.

    A fallback, for the case that a worker dies, has a queueing lock of its own: it must not keep an earlier job from
    being planned.
    """
    key = f"retry-stand-by:{retry_id}" if is_fallback else f"retry:{retry_id}"
    _defer(tasks.retry_execution, key, at, retry_id=str(retry_id))


def notify(*, notice_id: UUID, at: datetime | None = None, is_fallback: bool = False, is_overdue: bool = False) -> None:
    """Have a notice of alerts sent, or looked after, at `at` or at once; `is_fallback` as with `retry`.

    An overdue notice gets a queueing lock of its own: the job that was planned for it may be lost or stuck.
    """
    kind = "tell-stand-by" if is_fallback else "tell-overdue" if is_overdue else "tell"
    key = f"{kind}:{notice_id}"
    _defer(tasks.send_notice, key, at, notice_id=str(notice_id))


def _defer(task: Any, key: str, at: datetime | None, **arguments: str) -> None:
    """Write a job in the current transaction, unless one with that queueing lock is waiting already."""
    when = at - tasks.LEAD if at is not None else None
    moment = at.timestamp() if at is not None else None
    job = task.configure(queueing_lock=key, schedule_at=when).job
    # The savepoint keeps the unique violation of a job that is there already from ending the outer transaction.
    with suppress(AlreadyEnqueued), transaction.atomic():
        JobDeferrer(job=job, job_manager=_in_transaction).defer(**arguments, at=moment)
