"""Base classes of the management commands: the actor, imports, and the selection of dead letters."""

import getpass
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive

from reliability.bulk.candidates import LABELS as CAUSES
from reliability.bulk.preview import Preview
from reliability.checks import CONFIGURATION
from reliability.core import json_files
from reliability.core.audit import Actor
from reliability.core.json_files import Imported
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.errors import BackstopError, InvalidInput
from reliability.formats.counts import counted
from reliability.models import DeadLetterSource, DeadLetterStatus
from reliability.models.fields import validate_slug
from reliability.policies.error_codes import Reason

# A file of ten thousand workflows is about a tenth of this.
INPUT_LIMIT = 32 * 1024 * 1024
NAMED = ("workflow", "tenant", "error_code", "fingerprint", "source", "status", "search")


class OperatorCommand(BaseCommand):
    """A command that acts on behalf of an operator; the audit log records the operator's name."""

    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", default="", help="reason, recorded in the audit log")

    def actor(self, options: Mapping[str, Any]) -> Actor:
        return Actor(name=f"command:{_user()}", reason=options.get("reason") or "")

    def explain(self, error: BackstopError) -> str:
        """Return an error with its fields, one per line."""
        lines = [f"  {name}: {' '.join(messages)}" for name, messages in error.errors.items()]
        return "\n".join([error.detail, *lines])

    def standard_input(self) -> str:
        """Read standard input. Raises `CommandError` beyond `INPUT_LIMIT`."""
        return read_input(sys.stdin)


class ImportCommand(OperatorCommand):
    """A command that imports JSON files, all or none, and prints the result of each object."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("files", nargs="+", metavar="FILE", help="JSON file, or - for standard input")

    def load(self, documents: Sequence[dict[str, Any]], actor: Actor) -> Sequence[Imported]:
        """Bring the database in line with the documents. Raises `InvalidInput`."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        documents = [one for name in options["files"] for one in self._parse(name)]
        try:
            done = self.load(documents, self.actor(options))
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        for one in done:
            self.stdout.write(f"{one.slug}: {one.result}")

    def _parse(self, name: str) -> list[dict[str, Any]]:
        try:
            if name == "-":
                return json_files.parse(self.standard_input())
            with Path(name).open(encoding="utf-8-sig") as file:
                return json_files.parse(read_input(file))
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{name}: {error}") from None
        except InvalidInput as error:
            raise CommandError(f"{name}: {error.detail}") from None


class SelectionCommand(OperatorCommand):
    """A command that acts on the dead letters that its options select."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", metavar="ID", help="IDs of dead letters")
        parser.add_argument("--all", action="store_true", help="every dead letter with the status dead")
        parser.add_argument("--workflow", default="", help="only this workflow")
        parser.add_argument("--tenant", default="", help="only this tenant")
        parser.add_argument("--error-code", default="", help="only this error code")
        parser.add_argument("--failure-reason", default="", choices=["", *Reason], help="only this failure reason")
        parser.add_argument("--fingerprint", default="", help="only this failure group")
        parser.add_argument("--source", default="", choices=["", *DeadLetterSource.values])
        parser.add_argument("--status", default="", choices=["", *DeadLetterStatus.values])
        parser.add_argument("--search", default="", help="search errors, IDs and idempotency keys")
        parser.add_argument("--created-after", default="", metavar="TIME", help="an ISO 8601 time")
        parser.add_argument("--created-before", default="", metavar="TIME", help="an ISO 8601 time")
        parser.add_argument("--dry-run", action="store_true", help="count the matches, change nothing")

    def print_preview(self, preview: Preview, done: str) -> None:
        """Print the result of a dry run; `done` is the action's past participle."""
        self.stdout.write(f"{counted(preview.will, 'dead letter')} would be {done}.")
        for cause, count in preview.skipped.items():
            self.stdout.write(f"{count:,} would be skipped: {CAUSES.get(cause, cause)}.")

    def selection(self, options: Mapping[str, Any]) -> DeadLetterFilter:
        """Return the filter. Raises `CommandError` if nothing is selected: acting on everything needs `--all`."""
        named = {name: options[name] for name in NAMED}
        _check_slugs(named)
        moments = {name: _moment(options[name], name) for name in ("created_after", "created_before")}
        found = DeadLetterFilter(**named, **moments, reason=str(options["failure_reason"]))
        if not options["all"] and not options["ids"] and not found.as_json():
            raise CommandError("No dead letters selected. Give IDs, a filter, or --all.")
        if options["ids"] and (options["all"] or found.as_json()):
            raise CommandError("IDs cannot be combined with a filter or --all. Give one or the other.")
        return found


class EachCommand(OperatorCommand):
    """A command that acts on each of its arguments. A failure does not stop it; it then exits with an error."""

    metavar = "ID"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="+", metavar=self.metavar)

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        """Act on one row; return the result in words. Raises `BackstopError`, and `ValueError` for an invalid ID."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        failed = 0
        for name in options["names"]:
            try:
                self.stdout.write(f"{name}: {self.act(name, options)}")
            except (BackstopError, ValueError) as error:
                self.stderr.write(f"{name}: {error}")
                failed += 1
        if failed:
            raise CommandError(f"{failed} of {len(options['names'])} failed.")


def read_input(file: TextIO) -> str:
    """Read a file. Raises `CommandError` beyond `INPUT_LIMIT`: a device such as /dev/zero must not fill the memory."""
    text = file.read(INPUT_LIMIT + 1)
    if len(text) > INPUT_LIMIT:
        raise CommandError(
            f"{getattr(file, 'name', 'standard input')}: larger than the limit of {INPUT_LIMIT:,} characters."
        )
    return text


def add_until(parser: CommandParser, default: str) -> None:
    """Add `--until`; `default` says in words what applies without it."""
    parser.add_argument("--until", default="", metavar="TIME", help=f"an ISO 8601 time (default: {default})")


def until_of(options: Mapping[str, Any], *, now: datetime) -> datetime | None:
    """Return the time of `--until`, or `None` without it. Raises `CommandError` for a time in the past."""
    until: datetime | None = _moment(options["until"], "until")
    if until is not None and until <= now:
        raise CommandError("--until: this time is in the past. Give a future time.")
    return until


def _check_slugs(named: Mapping[str, str]) -> None:
    for name in ("workflow", "tenant"):
        if named[name]:
            try:
                validate_slug(named[name])
            except ValidationError as error:
                raise CommandError(f"--{name}: {error.messages[0]}") from None


def _moment(text: str, name: str) -> Any:
    if not text:
        return None
    try:
        found = parse_datetime(text)
        found = found if found is None or is_naive(found) else found.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: a time outside of the years that Python knows in UTC
        found = None
    if found is None or is_naive(found):
        raise CommandError(f"--{name.replace('_', '-')}: not a time with a UTC offset, such as 2026-01-31T12:00Z.")
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
