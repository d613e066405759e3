"""What the doctor says of cron jobs."""

from collections.abc import Iterator

from reliability.core import clock
from reliability.setup import doctor
from reliability.setup.doctor import Check, Finding

from . import health
from .models import CronJob


def cron_jobs() -> Iterator[Finding]:
    """Which of them are late, missing or failing."""
    found = health.attention(clock.now())
    for one in found:
        yield doctor.warning(
            f"'{one.job}' is {one.state}, by {one.lateness.total_seconds() / 60:.0f} minutes.",
            f"See that something pings POST /cron/{one.job}/, and how its last run ended.",
        )
    if not found:
        yield doctor.ok(f"None of {CronJob.objects.filter(enabled=True).count()} is late.")


def register() -> None:
    doctor.register(check=Check("cron jobs", cron_jobs))
