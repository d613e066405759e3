"""What the management commands have in common: who acts, and which dead letters are meant."""

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
from reliability.models import DeadLetterSource, DeadLetterStatus
from reliability.models.fields import validate_slug
from reliability.policies.fingerprint import LABELS

# Ten thousand workflows are a tenth of this.
INPUT_LIMIT = 32 * 1024 * 1024
NAMED = ("workflow", "tenant", "error_code", "fingerprint", "source", "status", "search")


class OperatorCommand(BaseCommand):
    """A command that acts in an operator's name, which the audit log keeps."""

    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", default="", help="kept in the audit log")

    def actor(self, options: Mapping[str, Any]) -> Actor:
        return Actor(name=f"command:{_user()}", reason=options.get("reason") or "")

    def explain(self, error: BackstopError) -> str:
        """Return an error with its fields, one per line."""
        lines = [f"  {name}: {' '.join(messages)}" for name, messages in error.errors.items()]
        return "\n".join([error.detail, *lines])

    def standard_input(self) -> str:
        """Return what comes on standard input. Raises `CommandError` beyond `INPUT_LIMIT`."""
        return read_input(sys.stdin)


class ImportCommand(OperatorCommand):
    """A command that reads JSON files, all or none, and says what became of each object in them."""

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
    """A command about the dead letters that its options select."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", metavar="ID", help="single dead letters")
        parser.add_argument("--all", action="store_true", help="every dead letter that is dead")
        parser.add_argument("--workflow", default="", help="of this workflow")
        parser.add_argument("--tenant", default="", help="of this tenant")
        parser.add_argument("--error-code", default="", help="with this error code")
        parser.add_argument("--failure-reason", default="", choices=["", *LABELS], help="that failed for this reason")
        parser.add_argument("--fingerprint", default="", help="that failed the same way")
        parser.add_argument("--source", default="", choices=["", *DeadLetterSource.values])
        parser.add_argument("--status", default="", choices=["", *DeadLetterStatus.values])
        parser.add_argument("--search", default="", help="in errors, ids and keys")
        parser.add_argument("--created-after", default="", metavar="TIME", help="ISO 8601")
        parser.add_argument("--created-before", default="", metavar="TIME", help="ISO 8601")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def say(self, looked: Preview, done: str) -> None:
        """Say what a dry run found."""
        self.stdout.write(f"{looked.will} would be {done}.")
        for cause, count in looked.skipped.items():
            self.stdout.write(f"{count} would be passed over: {CAUSES.get(cause, cause)}.")

    def selection(self, options: Mapping[str, Any]) -> DeadLetterFilter:
        """Return the filter. Raises `CommandError` where nothing was selected: `--all` has to be said."""
        named = {name: options[name] for name in NAMED}
        _check_slugs(named)
        moments = {name: _moment(options[name], name) for name in ("created_after", "created_before")}
        found = DeadLetterFilter(**named, **moments, reason=str(options["failure_reason"]))
        if not options["all"] and not options["ids"] and not found.frozen():
            raise CommandError("Which dead letters? Give ids, a filter, or --all.")
        if options["ids"] and (options["all"] or found.frozen()):
            raise CommandError("Give either ids or a filter.")
        return found


class EachCommand(OperatorCommand):
    """A command that does one thing to each row that it is given; some may fail while others do not."""

    metavar = "ID"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="+", metavar=self.metavar)

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        """Do it, and return what to say. Raises `BackstopError`, or `ValueError` for what is no id."""
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
    """Return what a file holds. Raises `CommandError` beyond `INPUT_LIMIT`, so that a device fills no memory."""
    text = file.read(INPUT_LIMIT + 1)
    if len(text) > INPUT_LIMIT:
        raise CommandError(
            f"{getattr(file, 'name', 'standard input')}: more than {INPUT_LIMIT:,} characters are not read."
        )
    return text


def add_until(parser: CommandParser, what: str) -> None:
    parser.add_argument("--until", default="", metavar="TIME", help=f"ISO 8601; without it, {what}")


def until_of(options: Mapping[str, Any], *, now: datetime) -> datetime | None:
    """Return the moment of `--until`, if there is one. Raises `CommandError`."""
    until: datetime | None = _moment(options["until"], "until")
    if until is not None and until <= now:
        raise CommandError("--until: it lies in the past.")
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
    except (ValueError, OverflowError):  # the latter: a time that UTC cannot tell
        found = None
    if found is None or is_naive(found):
        raise CommandError(f"--{name.replace('_', '-')}: a time with its offset is needed, such as 2026-01-31T12:00Z.")
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
