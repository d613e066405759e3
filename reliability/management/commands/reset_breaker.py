"""`manage.py reset_breaker`: close breakers by hand."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db.models import Q

from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.models import Breaker, Scope
from reliability.pipeline import circuit, clock


class Command(OperatorCommand):
    help = "Close circuit breakers by hand; what waits behind them ramps up."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", metavar="ID", help="single breakers")
        parser.add_argument("--workflow", help="those of this workflow's lanes")
        parser.add_argument("--tenant", help="only this tenant's")
        parser.add_argument("--instance", action="store_true", help="that of the n8n instance")
        parser.add_argument("--all", action="store_true", help="every one that is not closed")
        parser.add_argument("--dry-run", action="store_true", help="only list them")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(_selected(options))
        if not found:
            raise CommandError("There is no such breaker, or all of them are closed.")
        for breaker in found:
            if not options["dry_run"]:
                try:
                    circuit.reset(breaker_id=breaker.pk, hand=self.hand(options), now=clock.now())
                except BackstopError as error:
                    raise CommandError(f"{breaker}: {error}") from None
            self.stdout.write(
                f"{breaker}: {'would be reset' if options['dry_run'] else 'closed'} (was {breaker.state})"
            )


def _selected(options: dict[str, Any]) -> Any:
    rows = Breaker.objects.select_related("lane__workflow")
    if options["ids"]:
        try:
            return rows.filter(pk__in=[UUID(text) for text in options["ids"]])
        except ValueError as error:
            raise CommandError(str(error)) from None
    if options["instance"]:
        return rows.filter(scope=Scope.INSTANCE)
    if not (options["workflow"] or options["tenant"] or options["all"]):
        raise CommandError("Which breakers? Give ids, --workflow, --tenant, --instance or --all.")
    wanted = Q()
    if options["workflow"]:
        wanted &= Q(lane__workflow__slug=options["workflow"])
    if options["tenant"]:
        wanted &= Q(lane__tenant=options["tenant"])
    return rows.filter(wanted).exclude(state="closed")
