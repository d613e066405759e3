"""The API of cron jobs: list, get, put, run, enable, disable. Pings have their own endpoint: `POST /cron/<job>/`."""

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
from reliability.api.common.serializers import NoFilters, Page, ProblemSerializer, ReasonRequest
from reliability.api.common.views import PROBLEMS, View, caller_of, document_of, of_all_tenants, read
from reliability.errors import NotFound

from . import health, job_files, jobs
from .health import Health
from .models import CatchUp, CronJob, Overlap, Run, RunResult
from .schedules.times import State

SHOWN_RUNS = 20
STATES = [(str(one), str(one)) for one in State]


class CronRunSerializer(serializers.Serializer[Any]):
    """One run of a job. Its deliveries have its results; `finished_at` and `error` are only for built-in jobs."""

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


RUN_FIELDS = tuple(CronRunSerializer._declared_fields)


class CronJobInList(serializers.Serializer[Any]):
    """A cron job with its state, the time at which its next run is (or was) expected, and its last run."""

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
    last_run = CronRunSerializer(allow_null=True)
    created_at = serializers.DateTimeField()


class CronJobSerializer(CronJobInList):
    """A cron job with its last 20 runs."""

    runs = CronRunSerializer(many=True)


class CronJobPage(Page):
    results = CronJobInList(many=True)


ACTED = {200: CronJobSerializer, 404: ProblemSerializer, **PROBLEMS}


class CronJobs(View):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="list_cron_jobs", responses={200: CronJobPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List cron jobs. The built-in ones are listed only with a key for all tenants."""
        pagination.filters(request, NoFilters)
        caller = caller_of(request)
        paginator = pagination.IdCursor()
        found = paginator.paginate_queryset(_visible(caller), request) or []
        return paginator.get_paginated_response([_representation(one) for one in health.of(jobs=found, now=caller.now)])


class CronJobDocument(serializers.Serializer[Any]):
    """A cron job's document, and the reason for the change. Omitted fields go back to their defaults."""

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

    @extend_schema(operation_id="get_cron_job", responses={200: CronJobSerializer, 404: ProblemSerializer, **PROBLEMS})
    def get(self, request: Request, job: str) -> Response:
        """Get a cron job with its last runs."""
        return Response(_shown(job, caller_of(request)))

    @extend_schema(
        operation_id="put_cron_job",
        request=CronJobDocument,
        responses={200: CronJobSerializer, 201: CronJobSerializer, 409: ProblemSerializer, **PROBLEMS},
    )
    def put(self, request: Request, job: str) -> Response:
        """Create or replace a cron job, as `import_cron_jobs` does. Needs a key for all tenants."""
        caller = of_all_tenants(request, "change cron jobs")
        reason, document = document_of(request)
        done = job_files.put(slug=job, document=document, actor=caller.actor(reason), now=caller.now)
        return Response(_shown(job, caller), status=201 if done.result == "created" else 200)


class Enable(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="enable_cron_job", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, job: str) -> Response:
        """Enable a cron job."""
        return _switch(request, job, jobs.enable)


class Disable(View):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="disable_cron_job", request=ReasonRequest, responses=ACTED)
    def post(self, request: Request, job: str) -> Response:
        """Disable a cron job: Backstop refuses its pings. Accepted deliveries continue."""
        return _switch(request, job, jobs.disable)


class RunNow(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="run_cron_job",
        request=ReasonRequest,
        parameters=[KEY_HEADER],
        responses={**ACTED, 409: ProblemSerializer, 503: ProblemSerializer},
    )
    @honours_key
    def post(self, request: Request, job: str) -> Response:
        """Run a cron job now, in addition to its schedule. Refused if it is disabled or still running."""
        return _switch(request, job, jobs.run_now)


def _switch(request: Request, slug: str, act: Any) -> Response:
    caller = caller_of(request)
    actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
    act(job_id=_find(slug, caller).pk, actor=actor, now=caller.now)
    return Response(_shown(slug, caller))


def _visible(caller: Caller) -> "QuerySet[CronJob]":
    everything = CronJob.objects.prefetch_related("workflows")
    return everything.filter(caller.own("tenant") & Q(builtin="")) if caller.key.tenant else everything


def _find(slug: str, caller: Caller) -> CronJob:
    found = _visible(caller).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such cron job.")
    return found


def _shown(slug: str, caller: Caller) -> dict[str, Any]:
    found = _find(slug, caller)
    (one,) = health.of(jobs=[found], now=caller.now)
    return _representation(one) | {"runs": [_run(run) for run in found.runs.order_by("-started_at")[:SHOWN_RUNS]]}


def _representation(found: Health) -> dict[str, Any]:
    job, status = found.job, found.status
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
        "state": str(status.state),
        "expected_at": status.expected_at,
        "late_by_seconds": int(status.lateness.total_seconds()),
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
