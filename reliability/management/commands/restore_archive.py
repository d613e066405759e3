"""`manage.py restore_archive`: restore archived dead letters, or list the archives."""

from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.dead_letters import archive_restore
from reliability.dead_letters.archive_restore import ArchiveFilter, DamagedArchive, RestoreResult
from reliability.errors import BackstopError
from reliability.formats.counts import counted
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.models import Archive, ArchiveState

HEADINGS = ("archive", "state", "dead letters", "restored", "died from", "until", "bytes")


class Command(OperatorCommand):
    help = (
        "Restore archived dead letters as dead, with a new time to live. Each is restored once, however often you run"
        " it. The checksums of the file are verified first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", nargs="?", default="", metavar="NAME", help="name or ID of the archive")
        parser.add_argument(
            "--list", action="store_true", help="list the archives, and files that belong to no archive"
        )
        parser.add_argument(
            "--letter", action="append", default=[], type=UUID, metavar="ID", help="only this dead letter; repeatable"
        )
        parser.add_argument("--workflow", default="", help="only this workflow")
        parser.add_argument("--tenant", default="", help="only this tenant")
        parser.add_argument("--dry-run", action="store_true", help="verify the file and count, restore nothing")
        parser.add_argument(
            "--skip-damaged",
            action="store_true",
            help="restore the intact dead letters of a damaged archive, and list the others",
        )
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="restore files that the database does not know, for example after its loss",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["name"]) == options["list"]:
            raise CommandError("Give the NAME of an archive, or --list.")
        try:
            self._list() if options["list"] else self._restore(options)
        except DamagedArchive as error:
            raise CommandError(
                "\n".join([*error.problems, f"{error} --skip-damaged restores the intact dead letters."])
            ) from None
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None

    def _list(self) -> None:
        rows = [_row(one) for one in Archive.objects.order_by("id")]
        self.stdout.write(table(HEADINGS, rows) if rows else "No archives.")
        for name in archive_restore.unknown_files():
            self.stdout.write(
                f"{name}: these files belong to no archive in this database. They are left from a crash, or belong to"
                " another installation. After the loss of the database, restore them with --adopt."
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
        self._print_outcome(outcome, dry_run=dry_run)
        if outcome.problems:
            raise CommandError(f"The archive is damaged in {counted(len(outcome.problems), 'place')}, listed above.")
        if not outcome.matched:
            raise CommandError("No dead letter of this archive matches.")

    def _print_outcome(self, outcome: RestoreResult, *, dry_run: bool) -> None:
        for problem in outcome.problems:
            self.stderr.write(problem)
        would = "would be " if dry_run else ""
        self.stdout.write(f"{outcome.restored:,} of {counted(outcome.matched, 'dead letter')} {would}restored.")
        for reason, count in outcome.skipped.items():
            self.stdout.write(f"{count:,} skipped: {reason}.")


def _row(one: Archive) -> tuple[object, ...]:
    manifest = one.manifest
    state = "kept" if one.state == ArchiveState.KEPT else f"{one.state} (not in effect)"
    died = (manifest.get("died_from") or "", manifest.get("died_until") or "")
    return (one.name, state, one.letters, len(one.restored), *died, one.size)
