"""Runs cron jobs: from a ping to its deliveries.

    ping -> read the job, the clock and the switch (one query) -> find the slot of the run
         -> backstop_run_cron: repeat? overlap? runs, deliveries and the ping, in one statement and one transaction

n8n receives `{"job", "run", "slot", "triggered_at", "missed", "missed_since", "data"}`, under the idempotency key
`cron:<job>:<key of the run>`. The key of a run is its slot, or the caller's `Idempotency-Key`.
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

# How often a run is planned again after a concurrent one of the same job.
TRIES = 5
CONCURRENT_RUNS = "Other runs of this job are starting at the same time. Try again."
SWITCHED_OFF = timedelta(seconds=60)

COLUMNS = Columns(CronJob, "j")
READ = f"""
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
    """This cron job is disabled. Enable it to run it."""

    code = "disabled"


class Overlapping(Conflict):
    """The previous run of this cron job has not ended."""

    code = "overlapping"


class AnsweredAlready(Conflict):
    """This request is a repeat: the job has run for it already."""

    code = "answered_already"


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a ping; `deliveries` are those of runs for missed slots first, then those of its own run."""

    job: str
    run: UUID
    slot: datetime | None
    deliveries: tuple[UUID, ...]
    repeated: bool
    skipped: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """The source of a ping: its address, and when its handling began (`time.perf_counter`)."""

    address: str
    began: float

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.began) * 1000


@dataclass(frozen=True, slots=True)
class _JobState:
    """A job with everything that a run of it depends on; `last` is the slot of its last run."""

    now: datetime
    on: bool
    workflows: list[str]
    last: datetime | None
    job: CronJob


@dataclass(frozen=True, slots=True)
class _Planned:
    """A run to insert; its payload is the same for every workflow."""

    id: UUID
    key: str
    slot: datetime | None
    missed: int
    document: dict[str, Any]


def ping(*, slug: str, key: str | None, caller: Caller) -> Ran:
    """Run a job, once for its slot or once for `key`.

    Raises `NotFound`, `Disabled`, and `Unavailable` if scheduling is switched off.
    """
    with _unavailable_if_rolled_back():
        return _ping(slug, key, caller)


@deadlocks_retried
def _ping(slug: str, key: str | None, caller: Caller) -> Ran:
    for _ in range(TRIES):
        found = _read(slug)
        if not found.on:
            _note(found, PingResult.OFF, caller)
            raise Unavailable(
                "Scheduling is switched off. An operator can turn it on with the switch 'scheduling'.",
                retry_after=SWITCHED_OFF,
            )
        due = times.due(schedule=found.job.expected, last=found.last, since=found.job.active_since, now=found.now)
        try:
            ran = _run(found, due, key=key, caller=caller)
        except Disabled:
            _note(found, PingResult.DISABLED, caller)
            raise
        if ran is not None:
            return ran
    raise Unavailable(CONCURRENT_RUNS)


@contextmanager
def _unavailable_if_rolled_back() -> Iterator[None]:
    """Raise `Unavailable` if PostgreSQL rolled back every try (deadlock or serialization failure).

    Within a transaction of the caller the error is raised as it is: only the caller can repeat the transaction.
    """
    try:
        yield
    except OperationalError as error:
        if is_rolled_back(error) and not connection.in_atomic_block:
            raise Unavailable(CONCURRENT_RUNS) from error
        raise


def run_now(*, job_id: UUID, actor: Actor, now: datetime, once: UUID | None = None) -> Ran:
    """Run a job now, in addition to its schedule; `once` makes a repeated request run it only once.

    Raises `NotFound`, `Disabled`, `Overlapping`, `AnsweredAlready` and `Unavailable`.
    """
    with _unavailable_if_rolled_back():
        return _run_now(find(job_id=job_id), f"manual:{once or uuid7()}", actor, now)


@deadlocks_retried
def _run_now(job: CronJob, key: str, actor: Actor, now: datetime) -> Ran:
    with transaction.atomic():
        for _ in range(TRIES):
            ran = _run(_read(job.slug), Due(None), key=key, caller=None)
            if ran is not None:
                break
        else:
            raise Unavailable(CONCURRENT_RUNS)
        if ran.skipped:
            raise Overlapping
        if ran.repeated:
            raise AnsweredAlready
        audit.record(actor=actor, action="run_cron_job", now=now, target=job, details={"run": str(ran.run)})
    return ran


def enable(*, job_id: UUID, actor: Actor, now: datetime) -> CronJob:
    """Enable a job; slots before now do not count as missed. Raises `NotFound`."""
    with transaction.atomic():
        job = _locked(job_id)
        if not job.enabled:
            job.active_since = now
        _switch(job, enabled=True, actor=actor, now=now)
    return job


def disable(*, job_id: UUID, actor: Actor, now: datetime) -> CronJob:
    """Disable a job: its pings are refused, accepted deliveries continue. Raises `NotFound`."""
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
    """Return the id of the job with that slug. Raises `NotFound`."""
    found = CronJob.objects.filter(slug=slug).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"There is no cron job '{slug}'.")
    return found


def iso(moment: datetime | None) -> str | None:
    """Return a time in the format of the API: ISO 8601, in UTC, with a `Z`."""
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


def _read(slug: str) -> _JobState:
    """Read the job and everything that a run of it depends on. Raises `NotFound`."""
    with connection.cursor() as cursor:
        cursor.execute(READ, [slug])
        row = cursor.fetchone()
    if row is None:
        raise NotFound(f"There is no cron job '{slug}'.")
    now, on, workflows, last, *values = row
    return _JobState(now, on, workflows, last, COLUMNS.instance(values))


def _note(found: _JobState, result: PingResult, caller: Caller) -> None:
    Ping.objects.create(
        job=found.job, at=found.now, result=result, address=caller.address, duration_ms=round(caller.elapsed_ms)
    )


def _run(found: _JobState, due: Due, *, key: str | None, caller: Caller | None) -> Ran | None:
    """Insert the runs; `None` if the caller has to read the job again. Raises as `ping` does."""
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
    return f"This cron job is disabled: {job.disabled_reason}" if job.disabled_reason else ""


def _open_lanes(workflows: Sequence[str], tenant: str) -> None:
    with transaction.atomic():
        for pk in Workflow.objects.filter(slug__in=workflows).order_by("slug").values_list("pk", flat=True):
            opening.open_lane(workflow_id=pk, tenant=tenant)


def _plan(found: _JobState, due: Due, key: str | None) -> list[_Planned]:
    """Return the runs of a ping, oldest first: those for missed slots, then its own."""
    extra = due.missed if found.job.catch_up == CatchUp.ALL and not found.job.builtin else ()
    extra = tuple(slot for slot in extra if iso(slot) != key)  # a key that names its slot means this run itself
    told = due.missed if found.job.catch_up == CatchUp.ONE else ()
    own = _planned(found, due.slot, key=key, counted=len(due.missed), told=told)
    return [*(_planned(found, slot) for slot in extra), own]


def _planned(
    found: _JobState,
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


def _arguments(found: _JobState, planned: Sequence[_Planned], *, keyed: bool, caller: Caller | None) -> list[Any]:
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
