"""`manage.py pause SLUG… [--until TIME]`: pause workflows."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.delivery import control
from reliability.management.base import EachCommand, add_until, until_of


class Command(EachCommand):
    help = "Pause workflows: Backstop accepts their deliveries, and sends none until they resume."
    metavar = "SLUG"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_until(parser, "until someone resumes it")

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        now = clock.now()
        until = until_of(options, now=now)
        control.pause(workflow_id=control.workflow_id_of(slug=name), actor=self.actor(options), now=now, until=until)
        return f"paused until {until:%Y-%m-%d %H:%M:%S%z}" if until else "paused"
