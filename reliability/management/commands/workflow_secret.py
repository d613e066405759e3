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
    help = "Set a secret of a workflow from standard input, or remove it. Backstop never shows it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", metavar="SLUG")
        which = parser.add_mutually_exclusive_group(required=True)
        for name in workflow_secrets.SECRETS:
            which.add_argument(f"--{name.replace('_', '-')}", dest="name", action="store_const", const=name)
        parser.add_argument("--remove", action="store_true", help="remove the secret; standard input is not read")

    def handle(self, *args: Any, **options: Any) -> None:
        value = "" if options["remove"] else self.standard_input().strip()
        if not value and not options["remove"]:
            raise CommandError("Standard input is empty. Pipe the secret into this command.")
        try:
            found = control.workflow_id_of(slug=options["slug"])
            values = {options["name"]: value}
            workflow_secrets.keep(workflow_id=found, values=values, actor=self.actor(options), now=clock.now())
        except BackstopError as error:
            raise CommandError(self.explain(error)) from None
        self.stdout.write(f"{options['slug']}: {'removed' if options['remove'] else 'saved'}")
