"""`manage.py reencrypt`: write the secrets in the database under the present SECRET_KEY."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.setup import encryption


class Command(OperatorCommand):
    help = (
        "Write every secret in the database anew, under SECRET_KEY. After that, the keys in SECRET_KEY_FALLBACKS are"
        " needed no longer by them. Doing it again does no harm."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what can be read")

    def handle(self, *args: Any, **options: Any) -> None:
        found = encryption.reseal(actor=self.actor(options), now=clock.now(), dry_run=options["dry_run"])
        rows = [(one.name, one.done, len(one.lost)) for one in found]
        done = "would be written" if options["dry_run"] else "written"
        self.stdout.write(table(("secret", done, "unreadable"), rows))
        for one in found:
            for pk in one.lost:
                self.stderr.write(f"{one.name}: no key opens that of {pk}; enter it anew.")
        if any(one.lost for one in found):
            raise CommandError("Some secrets cannot be read. Keep the earlier keys, or enter these secrets anew.")
