"""`manage.py resume SLUG…`: let paused workflows' deliveries go on."""

from collections.abc import Mapping
from typing import Any

from reliability.core import clock
from reliability.delivery import control
from reliability.management.base import EachCommand


class Command(EachCommand):
    help = "Let paused workflows' deliveries go on."
    metavar = "SLUG"

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        control.resume(workflow_id=control.workflow_id_of(slug=name), actor=self.actor(options), now=clock.now())
        return "resumed"
