"""`manage.py demo [--remove]`: add a week of demo data, or remove it."""

from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION
from reliability.core import clock
from reliability.errors import BackstopError
from reliability.formats.counts import counted
from reliability.management import demo


class Command(BaseCommand):
    help = "Fill an empty database with a week of demo data, or remove it. None of it is ever sent."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", action="store_true", help="remove the demo data, and nothing else")
        parser.add_argument("--force", action="store_true", help="add it even if the database holds other data")
        parser.add_argument("--seed", type=int, default=demo.SEED, help="random seed (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["remove"]:
            self.stdout.write(f"{counted(demo.remove(), 'row')} of demo data removed.")
            return
        try:
            made = demo.fill(now=clock.now(), seed=options["seed"], force=options["force"])
        except BackstopError as refusal:
            hint = "" if demo.is_present() else " --force adds the demo data to it."
            raise CommandError(f"{refusal}{hint}") from None
        self.stdout.write(
            ", ".join(counted(count, str(model._meta.verbose_name)) for model, count in made.items()) + "."
        )
        self.stdout.write("None of it is ever sent. './manage.py demo --remove' removes it.")
