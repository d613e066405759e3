"""`manage.py cron_job run|enable|disable SLUG…`: run, enable or disable cron jobs."""

from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.management.base import EachCommand
from scheduling import jobs

ACTS: dict[str, tuple[Callable[..., Any], str]] = {
    "run": (jobs.run_now, "started"),
    "enable": (jobs.enable, "enabled"),
    "disable": (jobs.disable, "disabled"),
}


class Command(EachCommand):
    help = "Run cron jobs now, in addition to their schedule; or enable or disable them."
    metavar = "SLUG"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=list(ACTS))
        super().add_arguments(parser)

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        act, result = ACTS[options["act"]]
        act(job_id=jobs.named(slug=name), actor=self.actor(options), now=clock.now())
        return result
