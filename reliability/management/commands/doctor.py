"""`manage.py doctor`: what is wrong with an installation, and what to do about it."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.management.tables import table
from reliability.setup import doctor
from reliability.setup.doctor import Finding, State

HEADINGS = ("check", "state", "found")


class Command(BaseCommand):
    help = (
        "Look at configuration, database, migrations, engine, workers, static files, archive, mail, n8n and Stripe."
        " Changes nothing; exits with 1 where something fails."
    )
    requires_system_checks = []  # they are one of its checks

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(doctor.examine())
        failed = sum(one.state == State.FAILURE for one in found)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": not failed, "findings": [asdict(one) for one in found]}, indent=2))
        else:
            self._show(found)
        if failed:
            raise CommandError(f"{failed} of {len(found)} findings are failures.")

    def _show(self, found: list[Finding]) -> None:
        rows: list[tuple[str, str, str]] = []
        for one in found:
            rows.append((one.check, one.state.upper() if one.state == State.FAILURE else one.state, one.found))
            if one.advice:
                rows.append(("", "", f"-> {one.advice}"))
        self.stdout.write(table(HEADINGS, rows))
