"""Cron jobs as JSON: import and export.

A document describes a whole job: omitted fields go back to their defaults. Only `enabled`, which belongs to the
operators, keeps its value if the document omits it. For a built-in job, a document can only set the schedule.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from reliability.core import audit, json_files
from reliability.core.audit import Actor
from reliability.core.json_files import Errors, Imported
from reliability.errors import InvalidInput
from reliability.models import Workflow

from .models import CronJob

TEXT, NUMBER = ((str,), "text"), ((int,), "a whole number")
SCHEDULE = ("schedule", "timezone", "period_seconds")
PLAIN: dict[str, tuple[tuple[type, ...], str]] = {
    "name": TEXT,
    "schedule": TEXT,
    "timezone": TEXT,
    "period_seconds": NUMBER,
    "grace_seconds": NUMBER,
    "tenant": TEXT,
    "payload": ((dict,), "a JSON object"),
    "overlap": TEXT,
    "catch_up": TEXT,
}
KINDS = {**PLAIN, "slug": TEXT, "enabled": ((bool,), "true or false"), "disabled_reason": TEXT}


def load(*, documents: Sequence[Mapping[str, Any]], actor: Actor, now: datetime) -> list[Imported]:
    """Create or replace the jobs, all or none. Raises `InvalidInput` with every error."""
    errors: Errors = {}
    with transaction.atomic():
        json_files.lock_rows(CronJob.objects.all(), [str(one.get("slug")) for one in documents])
        done = [_load_one(i, document, errors, actor, now) for i, document in enumerate(documents)]
        json_files.refuse_duplicates(done, errors)
        if errors:
            raise InvalidInput("The document of cron jobs is invalid.", errors=errors)
    return done


def put(*, slug: str, document: Mapping[str, Any], actor: Actor, now: datetime) -> Imported:
    """Create or replace one job. Raises `InvalidInput`, and `Conflict` if another request creates it too."""
    if document.get("slug", slug) != slug:
        raise InvalidInput(errors={"slug": [f"Must be '{slug}', as in the URL."]})
    return json_files.load_one(load, document={**document, "slug": slug}, actor=actor, now=now)


def dump(*, job: CronJob) -> dict[str, Any]:
    """Return the document of a job, in the format that `load` reads, without default values."""
    document: dict[str, Any] = {"slug": job.slug, "name": job.name}
    document |= {name: getattr(job, name) for name in PLAIN if getattr(job, name) != _default(name)}
    if workflows := sorted(one.slug for one in job.workflows.all()):
        document["workflows"] = workflows
    if not job.enabled:
        document |= {"enabled": False, "disabled_reason": job.disabled_reason}
    return document


def _default(name: str) -> Any:
    return getattr(CronJob(), name)


def _load_one(index: int, document: Mapping[str, Any], errors: Errors, actor: Actor, now: datetime) -> Imported:
    slug = document.get("slug")
    wrong = _problems(document)
    if wrong or not isinstance(slug, str):
        errors.update({f"{index}.{name}": messages for name, messages in wrong.items()})
        return Imported(str(slug or index), "refused")
    job = CronJob.objects.filter(slug=slug).first() or CronJob(slug=slug)
    created = job._state.adding
    before = None if created else dump(job=job)
    _set(job, document, created=created, now=now)
    if not json_files.save(job, errors, prefix=f"{index}."):
        return Imported(slug, "refused")
    _set_workflows(job, document.get("workflows") or [], errors, f"{index}.workflows")
    if before == dump(job=job):
        return Imported(slug, "unchanged")
    audit.record(actor=actor, action="import_cron_job", now=now, target=job, details={"created": created})
    return Imported(slug, "created" if created else "updated")


def _set(job: CronJob, document: Mapping[str, Any], *, created: bool, now: datetime) -> None:
    """Set the document's values. With a new schedule, or after enabling, slots before now do not count as missed."""
    expected, enabled = job.expected, job.enabled
    for name in PLAIN:
        value = document.get(name)
        setattr(job, name, _default(name) if value is None else value)
    job.name = job.name or job.slug
    if "enabled" in document:
        job.enabled = document["enabled"]
        job.disabled_reason = "" if job.enabled else document.get("disabled_reason") or ""
    if created or job.expected != expected or (job.enabled and not enabled):
        job.active_since = now


def _set_workflows(job: CronJob, slugs: Sequence[str], errors: Errors, where: str) -> None:
    found = {one.slug: one for one in Workflow.objects.filter(slug__in=slugs)}
    if unknown := sorted(set(slugs) - found.keys()):
        errors[where] = [f"There is no workflow '{slug}'." for slug in unknown]
    else:
        job.workflows.set(found.values())


def _problems(document: Mapping[str, Any]) -> Errors:
    """Return the errors in the structure of a document; the model validates the values."""
    wrong: Errors = {name: ["Unknown field."] for name in document if name not in {*KINDS, "workflows"}}
    for name, kind in KINDS.items():
        if document.get(name) is not None and (message := json_files.type_error(document[name], kind)):
            wrong[name] = [message]
    workflows = document.get("workflows")
    if workflows is not None and not (isinstance(workflows, list) and all(isinstance(one, str) for one in workflows)):
        wrong["workflows"] = ["Must be a list of workflow slugs."]
    if not document.get("slug"):
        wrong["slug"] = ["Required: the job is pinged at POST /cron/<slug>/."]
    return wrong
