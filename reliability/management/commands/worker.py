"""`manage.py worker`: deliver, do bulk operations and housekeeping, send notices, and ask n8n."""

import sys
from typing import Any

from django.core.management import BaseCommand
from django.core.management.base import CommandParser

from reliability import queue
from reliability.checks import CONFIGURATION


class Command(BaseCommand):
    help = "Run a worker until it is asked to stop (SIGTERM, Ctrl-C): then it finishes what it has begun."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            choices=[one.name for one in queue.LOOPS],
            metavar="LOOP",
            help="run this loop only (dispatch, operations or n8n; may be repeated; default: all of them)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(queue.run_worker(only=options["only"]))
