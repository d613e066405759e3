"""`manage.py web`: run only the web server, in place of this process."""

import os
from typing import Any

from django.core.management import BaseCommand
from django.core.management.base import CommandParser

from reliability.checks import CONFIGURATION

from .up import ENVIRONMENT, port_of, web_command


class Command(BaseCommand):
    help = "Run the web server, with the limits from the settings."
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
        parser.add_argument("--port", type=port_of, default=os.environ.get("PORT") or "8000")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process with the server, so that signals reach it and no memory stays in use."""
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        command = web_command(options["host"], options["port"])
        os.execv(command[0], command)  # noqa: S606  # our own command
