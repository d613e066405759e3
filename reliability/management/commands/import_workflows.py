"""`manage.py import_workflows FILE…`"""

from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.errors import BackstopError, InvalidInput
from reliability.management.base import OperatorCommand
from reliability.pipeline import clock, workflow_files


class Command(OperatorCommand):
    help = "Read workflow policies from JSON files, all or none. Doing it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("files", nargs="+", metavar="FILE", help="JSON file, or - for standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        documents = [one for name in options["files"] for one in self._parse(name)]
        try:
            done = workflow_files.load(documents=documents, hand=self.hand(options), now=clock.now())
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        for one in done:
            self.stdout.write(f"{one.slug}: {one.result}")

    def _parse(self, name: str) -> list[dict[str, Any]]:
        try:
            text = self.standard_input() if name == "-" else Path(name).read_text(encoding="utf-8")
            return workflow_files.parse(text)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{name}: {error}") from None
        except InvalidInput as error:
            raise CommandError(f"{name}: {error.detail}") from None
