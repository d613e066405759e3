"""`manage.py check_alerts`: check every alert rule, notify about changes, and print the states."""

import json
from collections.abc import Sequence
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from reliability.alerts import check as alert_check
from reliability.alerts import notices
from reliability.alerts.check import Checked, Line
from reliability.checks import CONFIGURATION
from reliability.core import clock
from reliability.formats.counts import counted
from reliability.management.tables import table
from reliability.models import AlertNotice, NoticeState
from reliability.policies import alert_text
from reliability.policies.alerts import State

HEADINGS = ("alert", "state", "subject", "value", "limit", "since", "notes")
SHOWN = 10


class Command(BaseCommand):
    help = (
        "Check every alert rule against the database, notify about changes, and print the state of each alert. Several"
        " checks may run at once. Exit code 0: every notice was sent; 1: a channel failed, and Backstop retries it;"
        " 2: with --fail-on-firing, an alert is firing."
    )
    requires_system_checks = [CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="save nothing and send nothing")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--fail-on-firing", action="store_true", help="exit with code 2 if an alert is firing")

    def handle(self, *args: Any, **options: Any) -> None:
        found = alert_check.check(now=clock.now(), dry_run=options["dry_run"])
        if not options["dry_run"]:
            notices.send_due(now=clock.now())
        unsent = list(AlertNotice.objects.filter(state=NoticeState.WAITING).exclude(error="").order_by("id"))
        self.stdout.write(_json(found, unsent) if options["json"] else _text(found))
        if unsent and not options["dry_run"]:
            raise CommandError(_failures(unsent))
        if found.firing and options["fail_on_firing"]:
            raise CommandError(f"{counted(found.firing, 'alert')} firing.", returncode=2)


def _text(found: Checked) -> str:
    return table(HEADINGS, [_row(line) for line in found.lines])


def _row(line: Line) -> Sequence[str]:
    amounts = [
        "" if value is None else alert_text.amount(rule=line.rule, value=value) for value in (line.value, line.limit)
    ]
    limit = f"{line.rule.bound} {amounts[1]}" if amounts[1] else ""
    since = f"{line.since:%Y-%m-%d %H:%M}Z" if line.since and line.state is not State.OK else ""
    return (line.rule.name, str(line.state), _who(line), amounts[0], limit, since, _note(line))


def _who(line: Line) -> str:
    lane = f"{line.workflow}/{line.tenant}" if line.workflow and line.tenant else line.workflow
    return lane or line.subject


def _note(line: Line) -> str:
    notes = [
        ("silenced", line.is_silenced),
        ("acknowledged", line.is_acknowledged),
        (f"notified: {line.told}", bool(line.told)),
    ]
    return ", ".join(text for text, holds in notes if holds)


def _json(found: Checked, unsent: Sequence[AlertNotice]) -> str:
    document = {
        "at": found.now.isoformat(),
        "firing": found.firing,
        "conditions": [_condition(line) for line in found.lines],
        "notices": [str(one) for one in found.notices],
        "unsent": [{"channel": one.channel, "error": one.error, "attempts": one.attempts} for one in unsent],
    }
    return json.dumps(document, indent=2)


def _condition(line: Line) -> dict[str, Any]:
    return {
        "alert": line.rule.name,
        "severity": str(line.rule.severity),
        "state": str(line.state),
        "workflow": line.workflow,
        "tenant": line.tenant,
        "subject": line.subject,
        "value": line.value,
        "limit": line.limit,
        "bound": str(line.rule.bound),
        "since": line.since.isoformat() if line.since else None,
        "summary": line.summary,
        "quiet": line.is_silenced,
        "acknowledged": line.is_acknowledged,
        "told": str(line.told) if line.told else None,
    }


def _failures(unsent: Sequence[AlertNotice]) -> str:
    lines = [
        f"  {one.channel}: {one.error} ({counted(one.attempts, 'attempt')}, next at {one.next_at:%H:%M} UTC)"
        for one in unsent
    ]
    more = [f"  … and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(
        [f"{counted(len(unsent), 'notice')} not sent yet. Backstop keeps and retries them.", *lines[:SHOWN], *more]
    )
