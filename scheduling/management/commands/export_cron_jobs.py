"""`manage.py export_cron_jobs [SLUG…]`"""

import json
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION
from scheduling import job_files
from scheduling.models import CronJob


class Command(BaseCommand):
    help = "Print cron jobs as JSON, in the format that import_cron_jobs reads."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slugs", nargs="*", metavar="SLUG", help="only these jobs")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = CronJob.objects.prefetch_related("workflows").order_by("slug")
        slugs = options["slugs"]
        if slugs:
            rows = rows.filter(slug__in=slugs)
            if missing := sorted(set(slugs) - set(rows.values_list("slug", flat=True))):
                raise CommandError(f"No such cron job: {', '.join(missing)}.")
        self.stdout.write(json.dumps([job_files.dump(job=job) for job in rows], indent=2, ensure_ascii=False))
