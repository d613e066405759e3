"""`manage.py doctor`: check an installation, and say how to fix what is wrong."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.formats.counts import counted
from reliability.management.tables import table
from reliability.setup import doctor
from reliability.setup.doctor import Finding, State

HEADINGS = ("check", "state", "found")


class Command(BaseCommand):
    help = (
        "Check the configuration, database, migrations, engine, workers, static files, archive, mail, n8n and Stripe."
        " Changes nothing. Exits with code 1 if a check fails."
    )
    requires_system_checks = []  # doctor runs them itself, as one of its checks

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(doctor.examine())
        failed = sum(one.state == State.FAILURE for one in found)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": not failed, "findings": [asdict(one) for one in found]}, indent=2))
        else:
            self._show(found)
        if failed:
            raise CommandError(f"{counted(failed, 'check')} failed.")

    def _show(self, found: list[Finding]) -> None:
        rows: list[tuple[str, str, str]] = []
        for one in found:
            rows.append((one.check, one.state.upper() if one.state == State.FAILURE else one.state, one.found))
            if one.advice:
                rows.append(("", "", f"-> {one.advice}"))
        self.stdout.write(table(HEADINGS, rows))
