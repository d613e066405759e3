"""`manage.py cleanup`: every retention rule, in batches, with a table of what went where."""

from typing import Any

from django.core.management import BaseCommand
from django.core.management.base import CommandParser

from reliability.pipeline import clock, retention


class Command(BaseCommand):
    help = "Apply every retention rule, in batches. It may be stopped at any time, and run beside another."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run = options["dry_run"]
        self.stdout.write(f"{'rule':<20} {'rows':>10}  {'what would be done' if dry_run else 'what was done'}")
        for done in retention.cleanup(now=clock.now(), dry_run=dry_run):
            self.stdout.write(f"{done.name:<20} {done.rows:>10}  {done.what}")
