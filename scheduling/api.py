"""The API of cron jobs: list, show, write, run, enable, disable. They are pinged elsewhere: `POST /cron/<job>/`."""

from typing import Any

from django.db.models import Q, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.authentication import Caller
from reliability.api.common.idempotency import KEY_HEADER, honours_key
from reliability.api.common.serializers import Page, ProblemShape, ReasonRequest, Strict
from reliability.api.common.views import PROBLEMS, View, caller, document_of, of_all_tenants, read
from reliability.errors import NotFound

from . import health, job_files, jobs
from .health import Health
from .models import CatchUp, CronJob, Overlap, Run, RunResult
from .schedules.times import State

SHOWN_RUNS = 20
STATES = [(str(one), str(one)) for one in State]


class CronRunShape(serializers.Serializer[Any]):
    """One run of a job. How it ended is on its deliveries; `finished_at` and `error` are of the built-in jobs."""

    id = serializers.UUIDField()
    key = serializers.CharField()
    slot = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.ChoiceField(choices=RunResult.choices)
    delivery_ids = serializers.ListField(child=serializers.UUIDField())
    missed = serializers.IntegerField()
    caught_up_by = serializers.UUIDField(allow_null=True)
    error = serializers.CharField()


RUN_FIELDS = tuple(CronRunShape._declared_fields)


class CronJobInList(serializers.Serializer[Any]):
    """A job, how it stands, when its next run is (or was) expected, and its last run."""

    id = serializers.UUIDField()
    job = serializers.CharField()
    name = serializers.CharField()
    tenant = serializers.CharField()
    workflows = serializers.ListField(child=serializers.CharField())
    schedule = serializers.CharField()
    timezone = serializers.CharField()
    period_seconds = serializers.FloatField(allow_null=True)
    grace_seconds = serializers.IntegerField()
    payload = serializers.DictField()
    overlap = serializers.ChoiceField(choices=Overlap.choices)
    catch_up = serializers.ChoiceField(choices=CatchUp.choices)
    enabled = serializers.BooleanField()
    disabled_reason = serializers.CharField()
    builtin = serializers.BooleanField()
    state = serializers.ChoiceField(choices=STATES)
    expected_at = serializers.DateTimeField(allow_null=True)
    late_by_seconds = serializers.IntegerField()
    last_run = CronRunShape(allow_null=True)
    created_at = serializers.DateTimeField()


class CronJobShape(CronJobInList):
    """A job with its last 20 runs."""

    runs = CronRunShape(many=True)


class CronJobPage(Page):
    results = CronJobInList(many=True)


class NoFilters(Strict):
    """A list without filters."""


ACTED = {200: CronJobShape, 404: ProblemShape, **PROBLEMS}


class CronJobs(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_cron_jobs", responses={200: CronJobPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the cron jobs; the built-in ones for keys of all tenants."""
        pagination.filters(request, NoFilters)
        who = caller(request)
        paginator = pagination.IdCursor()
        found = paginator.paginate_queryset(_visible(who), request) or []
        return paginator.get_paginated_response([_shape(one) for one in health.of(jobs=found, now=who.now)])


class CronJobDocument(serializers.Serializer[Any]):
    """A job's file, and why it is written: what it leaves out goes back to its default."""

    reason = serializers.CharField(required=False)
    slug = serializers.CharField(required=False)
    name = serializers.CharField(required=False)
    schedule = serializers.CharField(required=False)
    timezone = serializers.CharField(required=False)
    period_seconds = serializers.IntegerField(required=False, allow_null=True)
    grace_seconds = serializers.IntegerField(required=False)
    tenant = serializers.CharField(required=False)
    payload = serializers.DictField(required=False)
    overlap = serializers.ChoiceField(choices=Overlap.choices, required=False)
    catch_up = serializers.ChoiceField(choices=CatchUp.choices, required=False)
    workflows = serializers.ListField(child=serializers.CharField(), required=False)
    enabled = serializers.BooleanField(required=False)
    disabled_reason = serializers.CharField(required=False)


class OneCronJob(View):
    scopes = {"GET": "read", "PUT": "operate"}

    @extend_schema(operation_id="get_cron_job", responses={200: CronJobShape, 404: ProblemShape, **PROBLEMS})
    def get(self, request: Request, job: str) -> Response:
        """Show a cron job, with its last runs."""
        return Response(_shown(job, caller(request)))

    @extend_schema(
        operation_id="put_cron_job",
        request=CronJobDocument,
        responses={200: CronJobShape, 201: CronJobShape, 409: ProblemShape, **PROBLEMS},
    )
    def put(self, request: Request, job: str) -> Response:
        """Make a job, or bring it in line with a document, as `import_cron_jobs` does with its file."""
        who = of_all_tenants(request, "write cron jobs, whose addresses all tenants share")
        reason, document = document_of(request)
        done = job_files.put(slug=job, document=document, actor=who.actor(reason), now=who.now)
        return Response(_shown(job, who), status=201 if done.result == "created" else 200)


class Enable(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="enable_cron_job", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, job: str) -> Response:
        """Let a job run again."""
        return _switch(request, job, jobs.enable)


class Disable(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="disable_cron_job", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, job: str) -> Response:
        """Refuse a job's pings from now on; what was accepted goes on."""
        return _switch(request, job, jobs.disable)


class RunNow(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="run_cron_job",
        request=ReasonRequest,
        parameters=[KEY_HEADER],
        responses={**ACTED, 409: ProblemShape, 503: ProblemShape},
    )
    @honours_key
    def post(self, request: Request, job: str) -> Response:
        """Run a job by hand, beside its schedule. Refused while it is disabled, or its run before has not ended."""
        return _switch(request, job, jobs.run_now)


def _switch(request: Request, slug: str, act: Any) -> Response:
    who = caller(request)
    actor = who.actor(read(request, ReasonRequest).get("reason", ""))
    act(job_id=_find(slug, who).pk, actor=actor, now=who.now)
    return Response(_shown(slug, who))


def _visible(who: Caller) -> "QuerySet[CronJob]":
    everything = CronJob.objects.prefetch_related("workflows")
    return everything.filter(who.own("tenant") & Q(builtin="")) if who.key.tenant else everything


def _find(slug: str, who: Caller) -> CronJob:
    found = _visible(who).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such cron job.")
    return found


def _shown(slug: str, who: Caller) -> dict[str, Any]:
    found = _find(slug, who)
    (one,) = health.of(jobs=[found], now=who.now)
    return _shape(one) | {"runs": [_run(run) for run in found.runs.order_by("-started_at")[:SHOWN_RUNS]]}


def _shape(found: Health) -> dict[str, Any]:
    job, standing = found.job, found.standing
    period = job.expected.period
    return {
        "id": job.pk,
        "job": job.slug,
        "name": job.name,
        "tenant": job.tenant,
        "workflows": sorted(one.slug for one in job.workflows.all()),
        "schedule": job.schedule,
        "timezone": job.timezone,
        "period_seconds": period.total_seconds() if period is not None else None,
        "grace_seconds": job.grace_seconds,
        "payload": job.payload,
        "overlap": job.overlap,
        "catch_up": job.catch_up,
        "enabled": job.enabled,
        "disabled_reason": job.disabled_reason,
        "builtin": bool(job.builtin),
        "state": str(standing.state),
        "expected_at": standing.expected_at,
        "late_by_seconds": int(standing.lateness.total_seconds()),
        "last_run": _run(found.last_run) if found.last_run is not None else None,
        "created_at": job.created_at,
    }


def _run(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in RUN_FIELDS}


urlpatterns = [
    path("v1/cron-jobs/", CronJobs.as_view()),
    path("v1/cron-jobs/<slug:job>/", OneCronJob.as_view()),
    path("v1/cron-jobs/<slug:job>/run/", RunNow.as_view()),
    path("v1/cron-jobs/<slug:job>/enable/", Enable.as_view()),
    path("v1/cron-jobs/<slug:job>/disable/", Disable.as_view()),
]
