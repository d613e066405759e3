"""`manage.py export_workflows [SLUG…]`"""

import json
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION
from reliability.models import Workflow
from reliability.n8n import workflow_files


class Command(BaseCommand):
    help = "Write workflow policies as JSON to standard output, in the shape that import_workflows reads."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slugs", nargs="*", metavar="SLUG", help="only these workflows")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Workflow.objects.prefetch_related("lanes").order_by("slug")
        wanted = options["slugs"]
        if wanted:
            rows = rows.filter(slug__in=wanted)
            if missing := sorted(set(wanted) - set(rows.values_list("slug", flat=True))):
                raise CommandError(f"There is no workflow {', '.join(missing)}.")
        self.stdout.write(json.dumps(workflow_files.dump(workflows=rows), indent=2))
