"""What the tests of cron jobs share."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from reliability.core import clock
from reliability.models import Workflow
from scheduling.models import CronJob, Ping, Run

SECRET = "a-cron-secret"


@pytest.fixture
def job(db):
    """Make a job that calls workflows (by slug; made where they are missing)."""

    def make(slug: str = "recap", *, workflows=("echo",), **values) -> CronJob:
        made = CronJob(slug=slug, **{"name": slug, "active_since": clock.now() - timedelta(days=400), **values})
        made.full_clean()
        made.save()
        quick = {"base_delay_ms": 1, "max_delay_ms": 50, "timeout_ms": 2000, "max_retries": 3}
        for one in workflows:
            made.workflows.add(
                Workflow.objects.get_or_create(slug=one, defaults={"name": one, "path": one, **quick})[0]
            )
        return made

    return make


@pytest.fixture
def builtin(db):
    """The built-in jobs, which a test that empties the tables takes away; none of their wake-ups is left of others."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE task_name = 'routine'")

    def find(name: str) -> CronJob:
        return CronJob.objects.get_or_create(builtin=name, defaults={"slug": name, "name": name})[0]

    return find


@pytest.fixture
def post(settings):
    """Ping a job."""
    settings.CRON_SECRET = SECRET

    def send(job: str = "recap", *, path: str = "", secret: str = SECRET, key: str | None = None, **options):
        headers = {"Authorization": f"Bearer {secret}", **({} if key is None else {"Idempotency-Key": key})}
        return Client().post(path or f"/cron/{job}/", headers=headers, **options)

    return send


def runs(job: CronJob) -> list[Run]:
    """A job's runs, in the order in which they began."""
    return list(Run.objects.filter(job=job).order_by("started_at"))


def pings(job: CronJob) -> list[str]:
    return list(Ping.objects.filter(job=job).order_by("id").values_list("result", flat=True))
