"""Runs cron jobs: what a ping becomes.

    ping -> look: the job, the clock, the switch (one query) -> slots: which run is it?
         -> `sql/cron_run.sql`: repeat? overlap? runs, deliveries, ping: one statement, one transaction

What n8n gets: `{"job", "run", "slot", "triggered_at", "missed", "missed_since", "data"}`, under the idempotency key
`cron:<job>:<the run's key>`. A run's key is its slot, or what the caller names it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, transaction

from reliability.core import audit, request_context
from reliability.core.audit import Actor
from reliability.core.lock_waits import deadlocks_retried, is_rolled_back
from reliability.errors import Conflict, NotFound, Unavailable
from reliability.lanes import opening
from reliability.models import Workflow, digest_of
from reliability.models.ids import uuid7
from reliability.models.rows import Columns

from .models import CatchUp, CronJob, Ping, PingResult
from .schedules import times
from .schedules.times import Due

# How often a run is planned anew where another one came in between.
TRIES = 5
OTHERS_CAME = "Other runs of the job came in between."
SWITCHED_OFF = timedelta(seconds=60)

COLUMNS = Columns(CronJob, "j")
LOOK = f"""
SELECT clock_timestamp(),
    NOT EXISTS (SELECT 1 FROM reliability_flag WHERE name = 'scheduling' AND NOT enabled),
    ARRAY(SELECT w.slug FROM scheduling_cronjob_workflows c JOIN reliability_workflow w ON w.id = c.workflow_id
        WHERE c.cronjob_id = j.id ORDER BY w.slug COLLATE "C"),
    (SELECT max(slot) FROM scheduling_run WHERE job_id = j.id AND slot IS NOT NULL),
    {COLUMNS.sql}
FROM scheduling_cronjob j WHERE j.slug = %s
"""  # noqa: S608  # names of our own models
RUN = """
SELECT * FROM backstop_run_cron(
    backstop_set_request_context(%s, %s, %s), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
)
"""


class Disabled(Conflict):
    """The job is disabled."""

    code = "disabled"


class Overlapping(Conflict):
    """The run before has not ended."""

    code = "overlapping"


class AnsweredAlready(Conflict):
    """This was asked for already: the job ran once for it."""

    code = "answered_already"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a ping led to: `deliveries` are those of its run, after those of the runs for missed slots."""

    job: str
    run: UUID
    slot: datetime | None
    deliveries: tuple[UUID, ...]
    repeated: bool
    skipped: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who pings: from where, and since when it is being answered (`time.perf_counter`)."""

    address: str
    began: float

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.began) * 1000


@dataclass(frozen=True, slots=True)
class _Found:
    now: datetime
    on: bool
    workflows: list[str]
    last: datetime | None
    job: CronJob


@dataclass(frozen=True, slots=True)
class _Planned:
    """A run to keep; its payload is the same for every workflow."""

    id: UUID
    key: str
    slot: datetime | None
    missed: int
    document: dict[str, Any]


def ping(*, slug: str, key: str | None, caller: Caller) -> Ran:
    """Run a job once for its slot, or once for `key`.

    Raises `NotFound`, `Disabled`, and `Unavailable` where scheduling is switched off.
    """
    with _unavailable_if_rolled_back():
        return _ping(slug, key, caller)


@deadlocks_retried
def _ping(slug: str, key: str | None, caller: Caller) -> Ran:
    for _ in range(TRIES):
        found = _look(slug)
        if not found.on:
            _note(found, PingResult.OFF, caller)
            raise Unavailable("Scheduling is switched off.", retry_after=SWITCHED_OFF)
        due = times.due(schedule=found.job.expected, last=found.last, since=found.job.active_since, now=found.now)
        try:
            ran = _run(found, due, key=key, caller=caller)
        except Disabled:
            _note(found, PingResult.DISABLED, caller)
            raise
        if ran is not None:
            return ran
    raise Unavailable(OTHERS_CAME)


@contextmanager
def _unavailable_if_rolled_back() -> Iterator[None]:
    """Raise `Unavailable` where PostgreSQL undid each try for the transactions of others.

    Within a transaction of the caller's the error stays as it is: only the caller can do it again.
    """
    try:
        yield
    except OperationalError as error:
        if is_rolled_back(error) and not connection.in_atomic_block:
            raise Unavailable(OTHERS_CAME) from error
        raise


def run_now(*, job_id: UUID, actor: Actor, now: datetime, once: UUID | None = None) -> Ran:
    """Run a job by hand, beside its schedule; `once` is good for one run, however often it comes.

    Raises `NotFound`, `Disabled`, `Overlapping`, `AnsweredAlready` and `Unavailable`.
    """
    with _unavailable_if_rolled_back():
        return _run_now(find(job_id=job_id), f"manual:{once or uuid7()}", actor, now)


@deadlocks_retried
def _run_now(job: CronJob, key: str, actor: Actor, now: datetime) -> Ran:
    with transaction.atomic():
        for _ in range(TRIES):
            ran = _run(_look(job.slug), Due(None), key=key, caller=None)
            if ran is not None:
                break
        else:
            raise Unavailable(OTHERS_CAME)
        if ran.skipped:
            raise Overlapping
        if ran.repeated:
            raise AnsweredAlready
        audit.record(actor=actor, action="run_cron_job", now=now, target=job, details={"run": str(ran.run)})
    return ran


def enable(*, job_id: UUID, actor: Actor, now: datetime) -> CronJob:
    """Let a job run again; what came before now was not missed. Raises `NotFound`."""
    with transaction.atomic():
        job = _locked(job_id)
        if not job.enabled:
            job.active_since = now
        _switch(job, enabled=True, actor=actor, now=now)
    return job


def disable(*, job_id: UUID, actor: Actor, now: datetime) -> CronJob:
    """Refuse a job's pings from now on; what was accepted goes on. Raises `NotFound`."""
    with transaction.atomic():
        job = _locked(job_id)
        _switch(job, enabled=False, actor=actor, now=now)
    return job


def find(*, job_id: UUID) -> CronJob:
    """Return a job. Raises `NotFound`."""
    job = CronJob.objects.filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such cron job.")
    return job


def named(*, slug: str) -> UUID:
    """Return the id of the job of that slug. Raises `NotFound`."""
    found = CronJob.objects.filter(slug=slug).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"There is no cron job '{slug}'.")
    return found


def iso(moment: datetime | None) -> str | None:
    """Return a moment as the API writes it: ISO 8601, in UTC, with a `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment is not None else None


def _locked(job_id: UUID) -> CronJob:
    job = CronJob.objects.select_for_update(no_key=True).filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such cron job.")
    return job


def _switch(job: CronJob, *, enabled: bool, actor: Actor, now: datetime) -> None:
    job.enabled, job.disabled_reason = enabled, "" if enabled else actor.reason
    job.save(update_fields=["enabled", "disabled_reason", "active_since"])
    audit.record(actor=actor, action="enable_cron_job" if enabled else "disable_cron_job", now=now, target=job)


def _look(slug: str) -> _Found:
    """Read the job and all that a run of it depends on. Raises `NotFound`."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK, [slug])
        row = cursor.fetchone()
    if row is None:
        raise NotFound(f"There is no cron job '{slug}'.")
    now, on, workflows, last, *values = row
    return _Found(now, on, workflows, last, COLUMNS.instance(values))


def _note(found: _Found, result: PingResult, caller: Caller) -> None:
    Ping.objects.create(
        job=found.job, at=found.now, result=result, address=caller.address, duration_ms=round(caller.elapsed_ms)
    )


def _run(found: _Found, due: Due, *, key: str | None, caller: Caller | None) -> Ran | None:
    """Have the database keep the runs; `None` where the caller has to look again. Raises as `ping` does."""
    job = found.job
    if not job.enabled:
        raise Disabled(_refusal(job))
    planned = _plan(found, due, key)
    arguments = _arguments(found, planned, keyed=key is not None, caller=caller)
    outcome, run, slot, deliveries, skipped, missing = _call(arguments)
    match outcome:
        case "run" | "repeat" | "skipped":
            return Ran(job.slug, run, slot, tuple(deliveries), outcome == "repeat", skipped)
        case "gone":
            raise NotFound(f"There is no cron job '{job.slug}'.")
        case "disabled":
            raise Disabled
        case "lanes":
            _open_lanes(missing, job.tenant)
    return None


def _call(arguments: Sequence[Any]) -> Sequence[Any]:
    """Call `backstop_run_cron`."""
    with connection.cursor() as cursor:
        cursor.execute(RUN, arguments)
        row: Sequence[Any] = cursor.fetchone()
        return row


def _refusal(job: CronJob) -> str:
    return f"The job is disabled: {job.disabled_reason}" if job.disabled_reason else ""


def _open_lanes(workflows: Sequence[str], tenant: str) -> None:
    with transaction.atomic():
        for pk in Workflow.objects.filter(slug__in=workflows).order_by("slug").values_list("pk", flat=True):
            opening.open_lane(workflow_id=pk, tenant=tenant)


def _plan(found: _Found, due: Due, key: str | None) -> list[_Planned]:
    """Return the runs that a ping asks for, oldest first; its own is the last."""
    extra = due.missed if found.job.catch_up == CatchUp.ALL and not found.job.builtin else ()
    extra = tuple(slot for slot in extra if iso(slot) != key)  # what the caller names by its slot is this run itself
    told = due.missed if found.job.catch_up == CatchUp.ONE else ()
    own = _planned(found, due.slot, key=key, counted=len(due.missed), told=told)
    return [*(_planned(found, slot) for slot in extra), own]


def _planned(
    found: _Found,
    slot: datetime | None,
    *,
    key: str | None = None,
    counted: int = 0,
    told: Sequence[datetime] = (),
) -> _Planned:
    new = uuid7()
    document = {
        "job": found.job.slug,
        "run": str(new),
        "slot": iso(slot),
        "triggered_at": iso(found.now),
        "missed": len(told),
        "missed_since": iso(told[0]) if told else None,
        "data": found.job.payload,
    }
    return _Planned(new, key or iso(slot) or str(new), slot, counted, document)


def _arguments(found: _Found, planned: Sequence[_Planned], *, keyed: bool, caller: Caller | None) -> list[Any]:
    """Return the arguments of `RUN`."""
    job, workflows = found.job, [] if found.job.builtin else found.workflows
    return [
        job.pk,
        *request_context.stored_ids(),
        workflows,
        job.tenant,
        None if keyed else job.expected.period,
        found.last,
        [one.id for one in planned],
        [one.key for one in planned],
        [one.slot for one in planned],
        [one.missed for one in planned],
        [json.dumps(one.document, ensure_ascii=False) for one in planned],
        [digest_of(one.document) for one in planned],
        [uuid7() for _ in planned for _ in workflows],
        found.now,
        caller.address if caller else None,
        caller.elapsed_ms if caller else 0.0,
    ]
