"""The doctor's check of cron jobs."""

from collections.abc import Iterator

from reliability.core import clock
from reliability.formats.counts import counted
from reliability.setup import doctor
from reliability.setup.doctor import Check, Finding

from . import health
from .models import CronJob


def cron_jobs() -> Iterator[Finding]:
    """List cron jobs that are late, missing or failing."""
    found = health.attention(clock.now())
    for one in found:
        late = counted(round(one.lateness.total_seconds() / 60), "minute")
        yield doctor.warning(
            f"The cron job '{one.job}' is {one.state}: {late} late.",
            f"Check that something pings POST /cron/{one.job}/, and how its last run ended.",
        )
    if not found:
        yield doctor.ok(f"{counted(CronJob.objects.filter(enabled=True).count(), 'enabled cron job')}, none late.")


def register() -> None:
    doctor.register(check=Check("cron jobs", cron_jobs))
