"""`manage.py reencrypt`: encrypt the secrets in the database with the current SECRET_KEY."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.setup import encryption


class Command(OperatorCommand):
    help = (
        "Encrypt every secret in the database again, with SECRET_KEY. Afterwards no secret needs the keys in"
        " SECRET_KEY_FALLBACKS. Running it again is harmless."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="check which secrets can be read, write nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        found = encryption.reencrypt(actor=self.actor(options), now=clock.now(), dry_run=options["dry_run"])
        rows = [(one.name, one.done, len(one.lost)) for one in found]
        done = "readable" if options["dry_run"] else "encrypted"
        self.stdout.write(table(("secret", done, "unreadable"), rows))
        for one in found:
            for pk in one.lost:
                self.stderr.write(f"{one.name}: no key decrypts the secret of {pk}. Enter it again.")
        if any(one.lost for one in found):
            raise CommandError(
                "Some secrets cannot be decrypted. Add their key to SECRET_KEY_FALLBACKS, or enter them again."
            )
