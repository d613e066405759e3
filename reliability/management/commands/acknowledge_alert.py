"""`manage.py acknowledge_alert ID… [--until TIME]`: acknowledge alerts, which stops their reminders."""

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
    help = "Acknowledge firing alerts, by ID or by name: Backstop sends no reminders until they resolve."
    metavar = "ALERT"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_until(parser, "until the alert resolves")

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        now = clock.now()
        until, actor = until_of(options, now=now), self.actor(options)
        for pk in _ids(name):
            alert_check.acknowledge(alert_id=pk, actor=actor, now=now, until=until)
        return f"acknowledged{f' until {until:%Y-%m-%d %H:%M:%S%z}' if until else ''}"


def _ids(name: str) -> list[UUID]:
    """Return the alerts of a name or an ID. Raises `NotFound`, and `ValueError` for text that is neither."""
    if name not in NAMES:
        return [UUID(name)]
    found = list(Alert.objects.firing().filter(name=name).values_list("pk", flat=True))
    if not found:
        raise NotFound("This alert is not firing.")
    return found
