"""`manage.py purge`: take dead letters out of the queue."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError

from reliability.bulk import operations
from reliability.core import clock
from reliability.dead_letters import purge
from reliability.errors import BackstopError
from reliability.management.base import SelectionCommand
from reliability.models import OperationKind


class Command(SelectionCommand):
    help = (
        "Purge dead letters: single ones by id, or all that a filter matches. They stay on record as purged;"
        " for some days it can be undone."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        selection = self.selection(options)
        if options["ids"]:
            self._single(options)
            return
        now = clock.now()
        if options["dry_run"]:
            self.say(operations.preview(kind=OperationKind.PURGE, selection=selection, now=now), "purged")
            return
        started = operations.submit(kind=OperationKind.PURGE, selection=selection, actor=self.actor(options), now=now)
        self.stdout.write(f"{started.matched} will be purged; batch {started.pk}.")

    def _single(self, options: dict[str, Any]) -> None:
        failed = 0
        for text in options["ids"]:
            try:
                if not options["dry_run"]:
                    purge.purge(dead_letter_id=UUID(text), actor=self.actor(options), now=clock.now())
                self.stdout.write(f"{text}: {'would be ' if options['dry_run'] else ''}purged")
            except (BackstopError, ValueError) as error:
                self.stderr.write(f"{text}: {error}")
                failed += 1
        if failed:
            raise CommandError(f"{failed} of {len(options['ids'])} were not purged.")
