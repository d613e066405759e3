"""`manage.py replay`: send dead letters again."""

import json
import sys
from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.errors import BackstopError
from reliability.management.base import SelectionCommand
from reliability.models import OperationKind
from reliability.pipeline import clock, replay


class Command(SelectionCommand):
    help = "Send dead letters again: single ones by id, or all that a filter matches, at a rate."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--rate", type=float, default=replay.DEFAULT_RATE, help="per second (default: %(default)s)")
        help_text = "'execution' for n8n's own retry from the failed node; by default as the entry's source allows"
        parser.add_argument("--via", choices=replay.Via.values, default="", help=help_text)
        parser.add_argument("--as-it-was", action="store_true", help="retry with the workflow as it was, not as it is")
        parser.add_argument("--payload", help="JSON to send instead ('-': standard input); needs exactly one id")

    def handle(self, *args: Any, **options: Any) -> None:
        selection = self.selection(options)
        if not 0 < options["rate"] <= 1000:  # the API's own bounds
            raise CommandError("--rate: a number above 0, up to 1000.")
        if options["ids"]:
            self._single(options)
            return
        if options["payload"] is not None:
            raise CommandError("--payload needs exactly one id.")
        if options["via"] or options["as_it_was"]:
            raise CommandError("--via and --as-it-was need ids.")
        now = clock.now()
        if options["dry_run"]:
            self.stdout.write(f"{replay.count(selection=selection, now=now)} would be replayed.")
            return
        kind, hand = OperationKind.REPLAY, self.hand(options)
        started = replay.submit(kind=kind, selection=selection, hand=hand, now=now, rate_per_second=options["rate"])
        self.stdout.write(f"{started.matched} will be replayed, {options['rate']:g} a second; batch {started.pk}.")

    def _single(self, options: dict[str, Any]) -> None:
        payload = _payload(options["payload"])
        if payload is not None and len(options["ids"]) != 1:
            raise CommandError("--payload needs exactly one id.")
        failed = 0
        for text in options["ids"]:
            failed += not self._one(text, payload, options)
        if failed:
            raise CommandError(f"{failed} of {len(options['ids'])} were not replayed.")

    def _one(self, text: str, payload: str | None, options: dict[str, Any]) -> bool:
        if options["dry_run"]:
            self.stdout.write(f"{text}: would be replayed.")
            return True
        try:
            hand = self.hand(options)
            delivery_id, batch_id = replay.bring_back(
                dead_letter_id=UUID(text),
                hand=hand,
                now=clock.now(),
                payload=payload,
                via=options["via"],
                load_workflow=not options["as_it_was"],
            )
        except (BackstopError, ValueError) as error:
            self.stderr.write(f"{text}: {error}")
            return False
        self.stdout.write(f"{text}: " + (f"delivery {delivery_id}" if delivery_id else f"retry in n8n {batch_id}"))
        return True


def _payload(text: str | None) -> str | None:
    if text is None:
        return None
    text = sys.stdin.read() if text == "-" else text
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CommandError(f"--payload: not JSON: {error}") from None
    if not isinstance(document, dict | list):
        raise CommandError("--payload: a JSON object or array is needed.")
    return text
