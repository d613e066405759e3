"""`manage.py cleanup`: every retention rule, in batches, with a table of what went where."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION
from reliability.core import clock
from reliability.management.progress import Progress
from reliability.management.tables import table
from reliability.retention import runner
from reliability.retention.runner import COUNTED, Done, Pace

HEADINGS = ("rule", "kept for", "removed", "left", "took", "what")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Command(BaseCommand):
    help = (
        "Apply every retention rule, in batches. It may be stopped at any time (it ends after the batch), and run"
        " beside another."
    )
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        names = [rule.name for rule in runner.rules()]
        parser.add_argument("--dry-run", action="store_true", help=f"only count, up to {COUNTED:,} of each")
        parser.add_argument(
            "--only", action="append", default=[], choices=names, metavar="RULE", help=f"one of {', '.join(names)}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run, only = options["dry_run"], options["only"]
        with Progress() as progress, _until_told() as told:
            pace = Pace(stopping=lambda: bool(told), watch=progress.add)
            found = []
            for done in runner.cleanup(now=clock.now(), dry_run=dry_run, only=only, pace=pace):
                progress.end()
                found.append(done)
        self.stdout.write(table(_headings(dry_run), [_row(done, dry_run) for done in found]))
        failed = [f"{done.name}: {done.error}" for done in found if done.error]
        if failed:
            raise CommandError("Not all of it was done.\n" + "\n".join(failed))
        if told:
            name = signal.Signals(told[0]).name
            raise CommandError(
                f"Stopped by {name} after a batch; what is left is for the next time.", returncode=128 + told[0]
            )


def _headings(dry_run: bool) -> tuple[str, ...]:
    return (*HEADINGS[:2], "would go", HEADINGS[-1]) if dry_run else HEADINGS


def _row(done: Done, dry_run: bool) -> tuple[str, ...]:
    begin = (done.name, _age(done.age), _count(done.rows, bounded=dry_run))
    return (*begin, done.what) if dry_run else (*begin, _count(done.left), f"{done.seconds:.1f} s", done.what)


def _age(age: timedelta | None) -> str:
    if age is None:
        return "for good"
    hours = int(age.total_seconds() // 3600)
    if hours == 0:
        return "-"
    return f"{hours // 24} days" if hours >= 48 and hours % 24 == 0 else f"{hours} hours"


def _count(number: int | None, *, bounded: bool = True) -> str:
    if number is None:
        return "?"
    return f"{number:,}+" if bounded and number >= COUNTED else f"{number:,}"


@contextmanager
def _until_told() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM instead of ending at once. Elsewhere than in a main thread, nobody tells."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    try:
        before = [signal.signal(number, note) for number in SIGNALS]
    except ValueError:
        yield told
        return
    try:
        yield told
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
