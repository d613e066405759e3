"""Alert readings of cron jobs: the endpoint's secret, the last ping, and late jobs."""

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db.models import OuterRef, Subquery

from reliability.alerts.readings import limit_of
from reliability.models.ids import is_demo
from reliability.policies.alerts import Reading

from . import health
from .models import CronJob, Ping

NAMES = ("LightEndpointFailing", "LightEndpointNotPinged", "CronJobLate")


def read(now: datetime) -> Iterator[Reading]:
    """Read them in three queries.

    The light endpoint writes nothing, so pings here are the POST requests, which write a row each.
    """
    newest = Ping.objects.filter(job=OuterRef("pk")).order_by("-id").values("at")[:1]
    jobs = [one for one in CronJob.objects.annotate(pinged_at=Subquery(newest)) if not is_demo(one.pk)]
    if any(one.enabled and not one.builtin for one in jobs):
        refused = 0.0 if settings.CRON_SECRET else 1.0
        yield Reading("LightEndpointFailing", refused, limit_of("LightEndpointFailing"))
    if pinged := [one.pinged_at for one in jobs if one.pinged_at is not None]:
        unpinged_for = max(0.0, (now - max(pinged)).total_seconds())
        yield Reading("LightEndpointNotPinged", unpinged_for, limit_of("LightEndpointNotPinged"))
    yield from _late(now, {one.slug: "" if one.builtin else one.tenant for one in jobs})


def _late(now: datetime, tenants: dict[str, str]) -> Iterator[Reading]:
    for one in health.attention(now):
        if one.job in tenants:
            yield Reading(
                name="CronJobLate",
                value=one.lateness.total_seconds(),
                limit=limit_of("CronJobLate"),
                tenant=tenants[one.job],
                subject=one.job,
                detail=one.state,
                since=now - one.lateness,
            )
