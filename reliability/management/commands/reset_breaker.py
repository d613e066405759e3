"""`manage.py reset_breaker`: close circuit breakers."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.lanes import breakers
from reliability.management.base import OperatorCommand
from reliability.management.breakers import add_selection, selected


class Command(OperatorCommand):
    help = (
        "Close circuit breakers. Waiting deliveries then ramp up: one in flight at first, one more with each success."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_selection(parser)
        parser.add_argument("--all", action="store_true", help="every breaker that is not closed")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = selected(options, everything=options["all"])
        named = options["ids"] or options["instance"]
        found = list(rows if named else rows.exclude(state="closed"))
        if not found:
            raise CommandError("No such breaker, or every selected breaker is closed already.")
        for breaker in found:
            if not options["dry_run"]:
                try:
                    breakers.reset(breaker_id=breaker.pk, actor=self.actor(options), now=clock.now())
                except BackstopError as error:
                    raise CommandError(f"{breaker}: {error}") from None
            self.stdout.write(
                f"{breaker}: {'would be reset' if options['dry_run'] else 'closed'} (was {breaker.state})"
            )
