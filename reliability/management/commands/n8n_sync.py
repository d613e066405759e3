"""`manage.py n8n_sync`: list n8n's webhooks, and import them as workflows."""

from collections.abc import Sequence
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.management.tables import table
from reliability.n8n import sync as n8n_sync
from reliability.n8n.sync import Webhook


class Command(OperatorCommand):
    help = (
        "List n8n's webhooks and whether Backstop knows them. --apply imports them; known workflows keep their policy."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--apply", nargs="+", default=[], metavar="SLUG", help="import these webhooks")
        parser.add_argument("--all", action="store_true", help="import every webhook that is new or different")
        parser.add_argument("--dry-run", action="store_true", help="list the webhooks, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["apply"] and options["all"]:
            raise CommandError("--apply and --all exclude each other. Give one of them.")
        try:
            found = n8n_sync.webhooks()
            chosen = _chosen(found, options)
            rows = [(one.slug, one.name, one.path, one.state, ", ".join(one.notes)) for one in found]
            self.stdout.write(table(("slug", "name", "path", "state", "notes"), rows))
            if chosen and not options["dry_run"]:
                for one in n8n_sync.import_webhooks(chosen=chosen, actor=self.actor(options), now=clock.now()):
                    self.stdout.write(f"{one.slug}: {one.result}")
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None


def _chosen(found: Sequence[Webhook], options: dict[str, Any]) -> list[Webhook]:
    if options["all"]:
        return [one for one in found if one.state in ("new", "different")]
    unknown = set(options["apply"]) - {one.slug for one in found}
    if unknown:
        raise CommandError(f"No such webhook in n8n: {', '.join(sorted(unknown))}.")
    return [one for one in found if one.slug in options["apply"]]
