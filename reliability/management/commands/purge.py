"""`manage.py purge`: purge dead letters."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError

from reliability.bulk import operations
from reliability.core import clock
from reliability.dead_letters import purge
from reliability.errors import BackstopError
from reliability.formats.counts import counted
from reliability.management.base import SelectionCommand
from reliability.models import OperationKind


class Command(SelectionCommand):
    help = (
        "Purge dead letters: by ID, or all that a filter matches. They keep the status purged, and for some days you"
        " can undo the purge."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        selection = self.selection(options)
        if options["ids"]:
            self._single(options)
            return
        now = clock.now()
        if options["dry_run"]:
            self.print_preview(operations.preview(kind=OperationKind.PURGE, selection=selection, now=now), "purged")
            return
        started = operations.submit(kind=OperationKind.PURGE, selection=selection, actor=self.actor(options), now=now)
        self.stdout.write(f"Purging {counted(started.matched, 'dead letter')}, batch {started.pk}.")

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
            raise CommandError(f"{failed:,} of {counted(len(options['ids']), 'dead letter')} not purged.")
