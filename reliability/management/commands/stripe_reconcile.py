"""`manage.py stripe_reconcile [--hours 72]`: compare Stripe's list of events with the ledger."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import audit, clock
from reliability.errors import BackstopError
from reliability.formats.counts import counted
from reliability.management.base import OperatorCommand
from reliability.stripe import reconcile as stripe_reconcile
from reliability.stripe.reconcile import LedgerState, Line

COLUMNS = "{:<10}  {:<32}  {:<36}  {:<17}  {:<10}  {:>10}  {}"


class Command(OperatorCommand):
    help = (
        "Compare Stripe's events of the last hours with the ledger, import the missing ones that a workflow subscribes"
        " to, and print each event that has not been processed: Stripe, ledger, deliveries, outcome."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--hours", type=int, default=72, help="hours to look back (default: 72; Stripe keeps 720)")
        parser.add_argument("--endpoint", help="only this endpoint (default: every endpoint with an API key)")
        parser.add_argument(
            "--everything", action="store_true", help="also import event types that no workflow subscribes to"
        )
        parser.add_argument("--all", action="store_true", help="print every event, not only the gaps")
        parser.add_argument("--dry-run", action="store_true", help="import nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["hours"] <= stripe_reconcile.HOURS_LIMIT:
            raise CommandError(f"--hours must be 1 to {stripe_reconcile.HOURS_LIMIT}: Stripe keeps events for 30 days.")
        lines: list[Line] = []
        try:
            for endpoint, key in stripe_reconcile.endpoints(slug=options["endpoint"]):
                lines += self._one(endpoint, key, options)
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        self._record(lines, options)
        self._print(lines, options)

    def _one(self, endpoint: Any, key: str, options: dict[str, Any]) -> list[Line]:
        found = stripe_reconcile.run(
            endpoint=endpoint,
            key=key,
            hours=options["hours"],
            now=clock.now(),
            dry_run=options["dry_run"],
            everything=options["everything"],
        )
        return list(found)

    def _record(self, lines: list[Line], options: dict[str, Any]) -> None:
        taken = sum(line.ledger is LedgerState.TAKEN_IN for line in lines)
        if taken:
            actor = self.actor(options)
            audit.record(actor=actor, action="stripe_reconcile", now=clock.now(), count=taken)

    def _print(self, lines: list[Line], options: dict[str, Any]) -> None:
        shown = [line for line in lines if options["all"] or line.is_gap]
        if shown:
            head = ("endpoint", "event", "type", "created", "ledger", "deliveries", "outcome")
            self.stdout.write(COLUMNS.format(*head))
        for line in shown:
            created = line.event.occurred_at.strftime("%Y-%m-%d %H:%MZ")
            values = (line.endpoint, line.event.id, line.event.type, created, line.ledger)
            self.stdout.write(COLUMNS.format(*values, line.deliveries, line.outcome))
        for name, count in stripe_reconcile.summary(lines=lines).items():
            self.stdout.write(f"{name}: {count}")
        self.stdout.write(
            f"{counted(sum(line.is_gap for line in lines), 'gap')} in the last {counted(options['hours'], 'hour')}."
        )
