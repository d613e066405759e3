"""`manage.py export_workflows [SLUG…]`"""

import json
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION
from reliability.models import Workflow
from reliability.n8n import workflow_files


class Command(BaseCommand):
    help = "Print workflow policies as JSON, in the format that import_workflows reads."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slugs", nargs="*", metavar="SLUG", help="only these workflows")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Workflow.objects.prefetch_related("lanes").order_by("slug")
        slugs = options["slugs"]
        if slugs:
            rows = rows.filter(slug__in=slugs)
            if missing := sorted(set(slugs) - set(rows.values_list("slug", flat=True))):
                raise CommandError(f"No such workflow: {', '.join(missing)}.")
        self.stdout.write(json.dumps(workflow_files.dump(workflows=rows), indent=2))
