"""`manage.py create_api_key --name N [--tenant T] [--scope S …] [--until TIME]`"""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand, add_until, until_of
from reliability.models import ApiKey, KeyScope
from reliability.setup import api_keys


class Command(OperatorCommand):
    help = "Create an API key and print it, once, alone on the last line of standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help="who or what uses the key")
        parser.add_argument("--tenant", help="the only tenant that the key can access (default: every tenant)")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            choices=KeyScope.values,
            help="a scope of the key; repeatable (default: every scope)",
        )
        add_until(parser, "until someone revokes it")

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        key = ApiKey(name=options["name"], tenant=options["tenant"], scopes=options["scope"])
        key.expires_at = until_of(options, now=now)
        try:
            plain = api_keys.issue(key=key, actor=self.actor(options), now=now)
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        tenant, scopes = key.tenant or "all tenants", ", ".join(key.scopes) or "all scopes"
        self.stderr.write(f"Key '{key.name}' for {tenant}, {scopes}. Copy it now, it is not shown again:")
        self.stdout.write(plain)
