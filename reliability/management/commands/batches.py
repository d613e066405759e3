"""`manage.py batches`: list and control bulk operations."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.bulk import operations
from reliability.core import clock
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.models import Operation

ACTIONS = {
    "pause": operations.pause,
    "resume": operations.resume,
    "cancel": operations.cancel,
    "rate": operations.set_rate,
    "undo": operations.undo_purge,
}


class Command(OperatorCommand):
    help = "List bulk operations, show one, or pause, resume, cancel or undo it, or change its rate."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("action", nargs="?", default="list", choices=["list", "show", *ACTIONS])
        parser.add_argument("id", nargs="?", metavar="ID")
        parser.add_argument("--rate", type=float, help="dead letters per second; only with 'rate'")
        parser.add_argument("--last", type=int, default=20, help="number of operations to list (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for one in Operation.objects.all()[: max(0, options["last"])]:
                self.stdout.write(line(one))
            return
        pk = _id(options["id"])
        try:
            done = self._act(options["action"], pk, options)
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        self.stdout.write(line(done))
        if done.note:
            self.stdout.write(done.note)

    def _act(self, action: str, pk: UUID, options: dict[str, Any]) -> Operation:
        if action == "show":
            found = Operation.objects.filter(pk=pk).first()
            if found is None:
                raise CommandError("No such operation. 'batches' lists them.")
            return found
        if (action == "rate") != (options["rate"] is not None):
            raise CommandError("The action 'rate' needs --rate, and no other action takes it.")
        values = {"rate_per_second": options["rate"]} if action == "rate" else {}
        done: Operation = ACTIONS[action](  # type: ignore[operator]  # each takes what is its own
            operation_id=pk, actor=self.actor(options), now=clock.now(), **values
        )
        return done


def line(one: Operation) -> str:
    """Describe an operation in one line."""
    ends = one.ends
    counts = f"{one.done:,} of {one.matched:,} done, {one.skipped:,} skipped"
    if one.kind == "replay":
        counts += f", {ends.recovered} recovered, {ends.failed} failed again, {one.rate_per_second:g} per second"
    return f"{one.pk}  {one.created_at:%Y-%m-%dT%H:%MZ}  {one.kind:<7}  {one.state:<9}  {counts}"


def _id(text: str | None) -> UUID:
    try:
        return UUID(text or "")
    except ValueError:
        raise CommandError("No operation given, or its ID is not a UUID. 'batches' lists the IDs.") from None
