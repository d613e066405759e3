"""`manage.py force_open_breaker [--until TIME]`: force circuit breakers open."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.lanes import breakers
from reliability.management.base import OperatorCommand, add_until, until_of
from reliability.management.breakers import add_selection, selected


class Command(OperatorCommand):
    help = "Force circuit breakers open: nothing is sent, and new deliveries wait."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_selection(parser)
        add_until(parser, "until someone resets it")

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        until = until_of(options, now=now)
        found = list(selected(options))
        if not found:
            raise CommandError("No such breaker.")
        for breaker in found:
            if not options["dry_run"]:
                try:
                    breakers.force_open(breaker_id=breaker.pk, actor=self.actor(options), now=now, until=until)
                except BackstopError as error:
                    raise CommandError(f"{breaker}: {error}") from None
            said = "would be forced open" if options["dry_run"] else "forced open"
            self.stdout.write(f"{breaker}: {said} (was {breaker.state})")
