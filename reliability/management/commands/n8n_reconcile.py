"""`manage.py n8n_reconcile`: take in what failed in n8n without a report."""

from datetime import timedelta
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.n8n import reconcile as n8n_reconcile
from reliability.n8n.reconcile import Window


class Command(OperatorCommand):
    help = (
        "List n8n's executions that crashed, failed or hang without a report, and join or bury them; recover what "
        "was made good in n8n meanwhile. Doing it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--hours", type=float, default=72, help="how far to look back (default: %(default)s)")
        hung = "minutes after which one that runs counts as hung (default: %(default)s)"
        parser.add_argument("--hung-after", type=float, default=60, metavar="MIN", help=hung)
        parser.add_argument("--all", action="store_true", help="of workflows that are not ours, too")
        parser.add_argument("--dry-run", action="store_true", help="only show")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["hours"] <= 24 * 365 or not 0 < options["hung_after"] <= 60 * 24 * 365:
            raise CommandError("--hours and --hung-after: above 0, up to a year.")
        window = Window(options["hours"], timedelta(minutes=options["hung_after"]), options["all"])
        try:
            lines = n8n_reconcile.run(
                window=window, actor=self.actor(options), now=clock.now(), dry_run=bool(options["dry_run"])
            )
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        rows = [(one.execution_id, one.workflow, one.status, one.result) for one in lines]
        if rows:
            self.stdout.write(table(("execution", "workflow", "status", "result"), rows))
        self.stdout.write(f"{len(rows)} executions" + (" would be looked after." if options["dry_run"] else "."))
