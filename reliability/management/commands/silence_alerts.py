"""`manage.py silence_alerts --until TIME --reason WHY [--alert NAME] [--workflow SLUG]`, and `--end ID`."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.alerts import check as alert_check
from reliability.core import clock
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand, add_until, until_of
from reliability.models import AlertSilence
from reliability.policies.alert_rules import NAMES


class Command(OperatorCommand):
    help = (
        "Silence alerts until a time: one alert, one workflow, both, or all. Without --until or --end, list the active"
        " silences."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--alert", default="", choices=["", *NAMES], help="only this alert")
        parser.add_argument("--workflow", default="", help="only this workflow")
        add_until(parser, "list the active silences")
        parser.add_argument("--end", metavar="ID", help="end this silence now")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._act(options)
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        except ValueError:
            raise CommandError(f"--end: '{options['end']}' is not an ID.") from None

    def _act(self, options: dict[str, Any]) -> None:
        now = clock.now()
        until, actor = until_of(options, now=now), self.actor(options)
        if options["end"]:
            alert_check.end_silence(silence_id=UUID(options["end"]), actor=actor, now=now)
        elif until is not None:
            alert_check.silence(actor=actor, now=now, until=until, alert=options["alert"], workflow=options["workflow"])
        for one in AlertSilence.objects.filter(until__gt=now):
            self.stdout.write(f"{one.pk}  {one}  until {one.until:%Y-%m-%d %H:%M}Z  by {one.created_by}: {one.reason}")
