"""The results and durations of the last runs of cron jobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from reliability.models import Delivery, DeliveryState
from reliability.models.rows import Columns

from .models import CronJob, Run, RunResult

SHOWN = 20
COLUMNS = Columns(Run, "r")
NEWEST = f"""
SELECT {COLUMNS.sql} FROM unnest(%s::uuid[]) AS job(id),
    LATERAL (SELECT * FROM scheduling_run WHERE job_id = job.id ORDER BY started_at DESC LIMIT %s) AS r
ORDER BY r.job_id, r.started_at DESC
"""  # noqa: S608  # our own names


@dataclass(frozen=True, slots=True)
class Past:
    """A run, its result (`ok`, `failed`, `running`, `skipped`), and its duration if it has ended."""

    run: Run
    went: str
    took: timedelta | None

    @property
    def lateness(self) -> timedelta | None:
        """How long after its slot the run began."""
        return max(timedelta(), self.run.started_at - self.run.slot) if self.run.slot is not None else None


def of(*, jobs: Iterable[CronJob]) -> dict[UUID, list[Past]]:
    """Return the last runs of each job, newest first; two queries for any number of jobs."""
    ids = [one.pk for one in jobs]
    with connection.cursor() as cursor:
        cursor.execute(NEWEST, [ids, SHOWN])
        runs = [COLUMNS.instance(row) for row in cursor.fetchall()]
    pasts = {one.run.pk: one for one in past(runs=runs)}
    found: dict[UUID, list[Past]] = {pk: [] for pk in ids}
    for run in runs:
        found[run.job_id].append(pasts[run.pk])
    return found


def past(*, runs: Sequence[Run]) -> list[Past]:
    """Return runs with their results; one query."""
    wanted = [pk for run in runs for pk in run.delivery_ids]
    rows = Delivery.objects.filter(pk__in=wanted).values_list("pk", "state", "finished_at")
    ended = {pk: (state, finished_at) for pk, state, finished_at in rows}
    return [_past(run, [ended[pk] for pk in run.delivery_ids if pk in ended]) for run in runs]


def _past(run: Run, deliveries: Sequence[tuple[str, datetime | None]]) -> Past:
    ends = [at for _, at in deliveries if at is not None]
    went = _result(run, [state for state, _ in deliveries])
    end = run.finished_at or max(ends, default=None)
    return Past(run, went, end - run.started_at if end is not None and went in ("ok", "failed") else None)


def _result(run: Run, states: Sequence[str]) -> str:
    if run.result != RunResult.ACCEPTED:
        return str(run.result)
    if DeliveryState.DEAD in states:
        return "failed"
    unfinished = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.AWAITING_CALLBACK)
    waits = any(state in unfinished for state in states) or (not run.delivery_ids and run.finished_at is None)
    return "running" if waits else "ok"
