"""`manage.py n8n_reconcile`: import failures of n8n that were not reported."""

from datetime import timedelta
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.formats.counts import counted
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.n8n import reconcile as n8n_reconcile
from reliability.n8n.reconcile import Window


class Command(OperatorCommand):
    help = (
        "Find n8n executions that crashed, failed or hang without a report. Add each to its delivery, or create a dead"
        " letter. Mark dead letters as recovered that succeeded in n8n since. Running it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--hours", type=float, default=72, help="hours to look back (default: %(default)s)")
        hung = "minutes after which a running execution counts as hung (default: %(default)s)"
        parser.add_argument("--hung-after", type=float, default=60, metavar="MIN", help=hung)
        parser.add_argument("--all", action="store_true", help="include n8n workflows that Backstop does not know")
        parser.add_argument("--dry-run", action="store_true", help="list the executions, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["hours"] <= 24 * 365 or not 0 < options["hung_after"] <= 60 * 24 * 365:
            raise CommandError("--hours and --hung-after must be above 0 and at most one year.")
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
        self.stdout.write(f"{counted(len(rows), 'execution')} {'to process' if options['dry_run'] else 'processed'}.")
