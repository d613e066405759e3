"""`manage.py worker`: send deliveries, run bulk operations and housekeeping, send notices, and query n8n."""

import sys
from typing import Any

from django.core.management import BaseCommand
from django.core.management.base import CommandParser

from reliability import queue
from reliability.checks import CONFIGURATION


class Command(BaseCommand):
    help = "Run a worker until SIGTERM or Ctrl-C; it then finishes the work in progress."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            choices=[one.name for one in queue.LOOPS],
            metavar="LOOP",
            help="run only this loop: dispatch, operations or n8n; repeatable (default: all)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(queue.run_worker(only=options["only"]))
