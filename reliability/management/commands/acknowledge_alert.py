"""`manage.py acknowledge_alert ID… [--until TIME]`: take alerts on, so that nobody is reminded of them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser

from reliability.alerts import check as alert_check
from reliability.core import clock
from reliability.errors import NotFound
from reliability.management.base import EachCommand, add_until, until_of
from reliability.models import Alert
from reliability.policies.alert_rules import NAMES


class Command(EachCommand):
    help = "Take alerts on, by id or by name: of one that fires, no reminder comes until it is over."
    metavar = "ALERT"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_until(parser, "until it is over")

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        now = clock.now()
        until, actor = until_of(options, now=now), self.actor(options)
        for pk in _ids(name):
            alert_check.acknowledge(alert_id=pk, actor=actor, now=now, until=until)
        return f"acknowledged{f' until {until:%Y-%m-%d %H:%M:%S%z}' if until else ''}"


def _ids(name: str) -> list[UUID]:
    """Return what a name or an id means. Raises `NotFound`, and `ValueError` for what is neither."""
    if name not in NAMES:
        return [UUID(name)]
    found = list(Alert.objects.firing().filter(name=name).values_list("pk", flat=True))
    if not found:
        raise NotFound("It does not fire.")
    return found
