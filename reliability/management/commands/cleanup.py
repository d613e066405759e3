"""`manage.py cleanup`: apply every retention rule, in batches, and print a table of the removed rows."""

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
from reliability.retention.runner import COUNT_LIMIT, Pace, RuleResult

HEADINGS = ("rule", "kept for", "removed", "left", "time", "rows")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Command(BaseCommand):
    help = (
        "Apply every retention rule, in batches. You can stop it at any time (it ends after the current batch), and"
        " several may run at once."
    )
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        names = [rule.name for rule in runner.rules()]
        parser.add_argument(
            "--dry-run", action="store_true", help=f"count the rows, up to {COUNT_LIMIT:,} per rule, and remove nothing"
        )
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            choices=names,
            metavar="RULE",
            help=f"apply only this rule; repeatable ({', '.join(names)})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run, only = options["dry_run"], options["only"]
        with Progress() as progress, _noting_signals() as received:
            pace = Pace(stopping=lambda: bool(received), watch=progress.add)
            found = []
            for done in runner.cleanup(now=clock.now(), dry_run=dry_run, only=only, pace=pace):
                progress.end()
                found.append(done)
        self.stdout.write(table(_headings(dry_run), [_row(done, dry_run) for done in found]))
        failed = [f"{done.name}: {done.error}" for done in found if done.error]
        if failed:
            raise CommandError("Some rules failed:\n" + "\n".join(failed))
        if received:
            name = signal.Signals(received[0]).name
            raise CommandError(
                f"Stopped by {name} after a batch. The next run removes the rest.", returncode=128 + received[0]
            )


def _headings(dry_run: bool) -> tuple[str, ...]:
    return (*HEADINGS[:2], "to remove", HEADINGS[-1]) if dry_run else HEADINGS


def _row(done: RuleResult, dry_run: bool) -> tuple[str, ...]:
    begin = (done.name, _age(done.age), _count(done.rows, bounded=dry_run))
    return (*begin, done.what) if dry_run else (*begin, _count(done.left), f"{done.seconds:.1f} s", done.what)


def _age(age: timedelta | None) -> str:
    if age is None:
        return "forever"
    hours = int(age.total_seconds() // 3600)
    if hours == 0:
        return "-"
    return f"{hours // 24} days" if hours >= 48 and hours % 24 == 0 else f"{hours} hours"


def _count(number: int | None, *, bounded: bool = True) -> str:
    if number is None:
        return "?"
    return f"{number:,}+" if bounded and number >= COUNT_LIMIT else f"{number:,}"


@contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM instead of ending at once. Outside of the main thread no signal handler can be set."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    try:
        before = [signal.signal(number, note) for number in SIGNALS]
    except ValueError:
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
