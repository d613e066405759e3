"""`manage.py resume SLUG…`: resume paused workflows."""

from collections.abc import Mapping
from typing import Any

from reliability.core import clock
from reliability.delivery import control
from reliability.management.base import EachCommand


class Command(EachCommand):
    help = "Resume paused workflows: Backstop sends their deliveries again."
    metavar = "SLUG"

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        control.resume(workflow_id=control.workflow_id_of(slug=name), actor=self.actor(options), now=clock.now())
        return "resumed"
