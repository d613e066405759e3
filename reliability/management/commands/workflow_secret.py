"""`manage.py workflow_secret SLUG --auth-value|--signing-secret [--remove]`"""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.core import clock
from reliability.delivery import control
from reliability.errors import BackstopError
from reliability.management.base import OperatorCommand
from reliability.setup import workflow_secrets


class Command(OperatorCommand):
    help = "Keep a secret of a workflow, read from standard input, or take it away. It is never shown."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", metavar="SLUG")
        which = parser.add_mutually_exclusive_group(required=True)
        for name in workflow_secrets.SECRETS:
            which.add_argument(f"--{name.replace('_', '-')}", dest="name", action="store_const", const=name)
        parser.add_argument("--remove", action="store_true", help="take it away; nothing is read")

    def handle(self, *args: Any, **options: Any) -> None:
        value = "" if options["remove"] else self.standard_input().strip()
        if not value and not options["remove"]:
            raise CommandError("Nothing came in on standard input.")
        try:
            found = control.workflow_id_of(slug=options["slug"])
            values = {options["name"]: value}
            workflow_secrets.keep(workflow_id=found, values=values, actor=self.actor(options), now=clock.now())
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        self.stdout.write(f"{options['slug']}: {'removed' if options['remove'] else 'kept'}")
