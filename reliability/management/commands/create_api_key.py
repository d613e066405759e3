"""`manage.py create_api_key --name N [--tenant T] [--scope S …]`"""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db import transaction

from reliability.management.base import OperatorCommand
from reliability.models import ApiKey, KeyScope
from reliability.pipeline import audit, clock


class Command(OperatorCommand):
    help = "Make an API key and print it, once, alone on the last line of standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help="who or what will use it")
        parser.add_argument("--tenant", help="the one tenant whose rows it reaches; without it, all of them")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            choices=KeyScope.values,
            help="repeatable; without it, all",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                key, plain = ApiKey.issue(name=options["name"], tenant=options["tenant"], scopes=options["scope"])
                audit.record(hand=self.hand(options), action="create_api_key", now=clock.now(), target=key)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from None
        tenant, scopes = key.tenant or "all tenants", ", ".join(key.scopes) or "all scopes"
        self.stderr.write(f"Key '{key.name}' for {tenant}, {scopes}. It cannot be shown again:")
        self.stdout.write(plain)
