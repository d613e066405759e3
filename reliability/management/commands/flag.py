"""`manage.py flag [NAME on|off]`: turn parts of the service off and on."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.lanes import flags
from reliability.management.base import OperatorCommand
from reliability.models import FlagName


class Command(OperatorCommand):
    help = "List the switches (scheduling, dispatch, stripe), or turn one on or off."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", nargs="?", choices=FlagName.values)
        parser.add_argument("state", nargs="?", choices=["on", "off"])

    def handle(self, *args: Any, **options: Any) -> None:
        name, state = options["name"], options["state"]
        if name and not state:
            raise CommandError("Give a state: on or off.")
        if name:
            flags.switch(name=name, enabled=state == "on", actor=self.actor(options), now=clock.now())
        for one in flags.all_flags():
            line = f"{one.name}: {'on' if one.enabled else 'OFF'}"
            if one.changed_at:
                line += f"  since {one.changed_at:%Y-%m-%d %H:%M}Z by {one.changed_by}: {one.reason}"
            self.stdout.write(line)
