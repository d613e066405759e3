"""`manage.py replay`: replay dead letters."""

import sys
from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser

from reliability.bulk import operations
from reliability.bulk.replay_one import Via, replay_one
from reliability.core import clock
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.errors import BackstopError, InvalidInput
from reliability.formats import strict_json
from reliability.formats.counts import counted
from reliability.management.base import SelectionCommand, read_input
from reliability.models import OperationKind


class Command(SelectionCommand):
    help = "Replay dead letters: by ID, or all that a filter matches, at a limited rate."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        rate = operations.DEFAULT_RATE
        parser.add_argument("--rate", type=float, default=rate, help="replays per second (default: %(default)s)")
        parser.add_argument(
            "--canary", action="store_true", help="replay one first, and the others when it has recovered"
        )
        help_text = "stop above this failure rate of the finished replays"
        parser.add_argument("--stop-at", type=float, metavar="PERCENT", help=help_text)
        help_text = (
            "how to replay: 'execution' is n8n's own retry from the failed node (default: depends on the source)"
        )
        parser.add_argument("--via", choices=Via.values, default="", help=help_text)
        parser.add_argument(
            "--as-it-was",
            action="store_true",
            help="with --via execution: use the workflow version of the failed execution",
        )
        parser.add_argument(
            "--payload", help="JSON payload to send instead ('-': standard input); needs exactly one ID"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        selection = self.selection(options)
        if options["ids"]:
            self._single(options)
            return
        if options["payload"] is not None:
            raise CommandError("--payload needs exactly one ID.")
        if options["via"] or options["as_it_was"]:
            raise CommandError("--via and --as-it-was need IDs.")
        try:
            self._many(selection, options)
        except InvalidInput as error:
            raise CommandError(self.explain(error)) from None

    def _many(self, selection: DeadLetterFilter, options: dict[str, Any]) -> None:
        now, rate, kind = clock.now(), options["rate"], OperationKind.REPLAY
        if options["dry_run"]:
            self.print_preview(
                operations.preview(kind=kind, selection=selection, now=now, rate_per_second=rate), "replayed"
            )
            return
        started = operations.submit(
            kind=kind,
            selection=selection,
            actor=self.actor(options),
            now=now,
            rate_per_second=rate,
            canary=options["canary"],
            stop_failure_rate=None if options["stop_at"] is None else options["stop_at"] / 100,
        )
        self.stdout.write(
            f"Replaying {counted(started.matched, 'dead letter')} at {rate:g} per second, batch {started.pk}."
        )

    def _single(self, options: dict[str, Any]) -> None:
        payload = _payload(options["payload"])
        if payload is not None and len(options["ids"]) != 1:
            raise CommandError("--payload needs exactly one ID.")
        failed = 0
        for text in options["ids"]:
            failed += not self._one(text, payload, options)
        if failed:
            raise CommandError(f"{failed:,} of {counted(len(options['ids']), 'dead letter')} not replayed.")

    def _one(self, text: str, payload: str | None, options: dict[str, Any]) -> bool:
        if options["dry_run"]:
            self.stdout.write(f"{text}: would be replayed.")
            return True
        try:
            actor = self.actor(options)
            delivery_id, batch_id = replay_one(
                dead_letter_id=UUID(text),
                actor=actor,
                now=clock.now(),
                payload=payload,
                via=options["via"],
                load_workflow=not options["as_it_was"],
            )
        except (BackstopError, ValueError) as error:
            self.stderr.write(f"{text}: {error}")
            return False
        self.stdout.write(
            f"{text}: " + (f"delivery {delivery_id}" if delivery_id else f"n8n execution retry, batch {batch_id}")
        )
        return True


def _payload(text: str | None) -> str | None:
    if text is None:
        return None
    text = read_input(sys.stdin) if text == "-" else text
    try:
        document = strict_json.load(text)
    except InvalidInput as error:
        raise CommandError(f"--payload: {error.detail.replace('The body', 'The payload')}") from None
    if not isinstance(document, dict | list):
        raise CommandError("--payload: not a JSON object or array.")
    return text
