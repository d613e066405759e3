"""`manage.py stripe_reconcile [--hours 72]`: Stripe's own list of events, held against the ledger."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import audit, clock
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.stripe import reconcile as stripe_reconcile
from reliability.stripe.reconcile import LedgerState, Line

COLUMNS = "{:<10}  {:<32}  {:<36}  {:<17}  {:<10}  {:>10}  {}"


class Command(OperatorCommand):
    help = (
        "List Stripe's events of the last hours, take in those that are missing and that a workflow asks for, and"
        " print each event whose effect has not been had: Stripe, ledger, deliveries, outcome."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--hours", type=int, default=72, help="how far back (default: 72; Stripe keeps 720)")
        parser.add_argument("--endpoint", help="only this endpoint's account; else every one with an API key")
        parser.add_argument("--everything", action="store_true", help="take in types that no workflow asks for, too")
        parser.add_argument("--all", action="store_true", help="print every event, not only the gaps")
        parser.add_argument("--dry-run", action="store_true", help="take nothing in")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["hours"] <= stripe_reconcile.HOURS_LIMIT:
            raise CommandError(f"--hours: 1 to {stripe_reconcile.HOURS_LIMIT}; Stripe lists no more.")
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
        self.stdout.write(f"{len([line for line in lines if line.is_gap])} gaps in the last {options['hours']} hours.")
