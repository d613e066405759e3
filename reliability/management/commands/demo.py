"""`manage.py demo [--remove]`: a made-up week in the console, and out of it again."""

from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION
from reliability.core import clock
from reliability.errors import BackstopError
from reliability.management import demo


class Command(BaseCommand):
    help = "Fill an empty database with a made-up week, none of which is ever sent; or take it out again."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", action="store_true", help="take it out again, and nothing else")
        parser.add_argument("--force", action="store_true", help="even if the database holds other data")
        parser.add_argument("--seed", type=int, default=demo.SEED, help="another one makes another week")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["remove"]:
            self.stdout.write(f"{demo.remove():,} rows of the demo removed.")
            return
        try:
            made = demo.fill(now=clock.now(), seed=options["seed"], force=options["force"])
        except BackstopError as refusal:
            hint = "" if demo.is_present() else " --force adds the demo beside it."
            raise CommandError(f"{refusal}{hint}") from None
        self.stdout.write(", ".join(f"{count:,} {name}" for name, count in made.items()) + ".")
        self.stdout.write("None of it is ever sent. 'manage.py demo --remove' takes it out again.")
