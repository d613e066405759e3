"""`manage.py restore_archive`: bring archived dead letters back into the queue; list the archives."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.dead_letters import archive_restore
from reliability.dead_letters.archive_restore import ArchiveFilter, DamagedArchive, RestoreResult
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.models import Archive, ArchiveState

HEADINGS = ("archive", "state", "letters", "restored", "died from", "until", "bytes")


class Command(OperatorCommand):
    help = (
        "Bring archived dead letters back as dead, with a new time to live; each once, however often it is run."
        " The file is held against its checksums first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", nargs="?", default="", metavar="NAME", help="of an archive, or its id")
        parser.add_argument("--list", action="store_true", help="list the archives, and files that belong to none")
        parser.add_argument("--letter", action="append", default=[], type=UUID, metavar="ID", help="this dead letter")
        parser.add_argument("--workflow", default="", help="those of this workflow")
        parser.add_argument("--tenant", default="", help="those of this tenant")
        parser.add_argument("--dry-run", action="store_true", help="only check the file and count")
        parser.add_argument(
            "--skip-damaged", action="store_true", help="restore what is whole of a damaged archive, and name the rest"
        )
        parser.add_argument(
            "--adopt", action="store_true", help="of files that the database does not know, as after its loss"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["name"]) == options["list"]:
            raise CommandError("Give the NAME of an archive, or --list.")
        try:
            self._list() if options["list"] else self._restore(options)
        except DamagedArchive as error:
            raise CommandError("\n".join([*error.problems, f"{error} --skip-damaged restores the rest."])) from None
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None

    def _list(self) -> None:
        rows = [_row(one) for one in Archive.objects.order_by("id")]
        self.stdout.write(table(HEADINGS, rows) if rows else "There are no archives.")
        for name in archive_restore.unknown_files():
            self.stdout.write(
                f"{name}: its files are of no archive here: left by a crash, or another installation's. If the"
                " database was lost, --adopt makes them known."
            )

    def _restore(self, options: dict[str, Any]) -> None:
        now = clock.now()
        selection = ArchiveFilter(frozenset(options["letter"]), options["workflow"], options["tenant"])
        if options["adopt"]:
            archive = archive_restore.adopt(name=options["name"], now=now)
        else:
            archive = archive_restore.find(name=options["name"])
        skip, dry_run = options["skip_damaged"], options["dry_run"]
        outcome = archive_restore.restore(
            archive=archive, actor=self.actor(options), now=now, selection=selection, skip_damaged=skip, dry_run=dry_run
        )
        self._say(outcome, dry_run=dry_run)
        if outcome.problems:
            raise CommandError(f"The archive is damaged: {len(outcome.problems)} places, named above.")
        if not outcome.matched:
            raise CommandError("No letter of this archive matches.")

    def _say(self, outcome: RestoreResult, *, dry_run: bool) -> None:
        for problem in outcome.problems:
            self.stderr.write(problem)
        would = "would be " if dry_run else ""
        self.stdout.write(f"{outcome.restored} of {outcome.matched} {would}restored.")
        for reason, count in outcome.skipped.items():
            self.stdout.write(f"{count} passed over: {reason}.")


def _row(one: Archive) -> tuple[object, ...]:
    said = one.manifest
    state = "kept" if one.state == ArchiveState.KEPT else f"{one.state}: of no effect"
    died = (said.get("died_from") or "", said.get("died_until") or "")
    return (one.name, state, one.letters, len(one.restored), *died, one.size)
