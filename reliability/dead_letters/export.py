"""Writes dead letters out, as JSON Lines or CSV, a piece at a time however many there are."""

import csv
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Length

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.models import DeadLetter

from .filters import DeadLetterFilter

BATCH = 200
# A longer payload is read alone, so that a batch of them never fills the memory.
TOGETHER = 64 * 1024
COLUMNS = (
    *("id", "workflow", "tenant", "status", "source", "reason", "error_code", "error_message", "fingerprint"),
    *("retry_count", "idempotency_key", "delivery", "execution_id", "execution_url", "created_at", "died_at"),
    "expires_at",
)
_PATHS = {
    "workflow": "lane__workflow__slug",
    "tenant": "lane__tenant",
    "idempotency_key": "delivery__idempotency_key",
    "delivery": "delivery_id",
}
# What a spreadsheet takes for a formula, or for a way to one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")
# Where a spreadsheet may part cells at a semicolon, a tab or a line's end, before what it takes for a formula.
_PARTED = re.compile(r"""([;\t\r\n][ "'\u00a0]*)(?=[=+\-@＝＋－＠])""")


def begin(*, selection: DeadLetterFilter, kind: str, actor: Actor, now: datetime) -> Iterator[str]:
    """Put the export into the audit log, and return its text in pieces: `kind` is `jsonl` or `csv`.

    Newest first, as they are when each batch is read. The payload is in JSON Lines alone.
    """
    count = selection.matching().count()
    details = {"filter": selection.frozen(), "format": kind}
    audit.record(actor=actor, action="export_dead_letters", now=now, count=count, details=details)
    return _jsonl(selection) if kind == "jsonl" else _csv(selection)


def _jsonl(selection: DeadLetterFilter) -> Iterator[str]:
    for batch in _batches(selection, with_payload=True):
        for row in batch:
            payload = row.pop("payload")
            if payload is None:
                payload = DeadLetter.objects.values_list("payload", flat=True).filter(pk=row["id"]).first() or ""
            head = json.dumps(row, ensure_ascii=False, default=_plain)
            # The payload is JSON text already: it goes in as it is, on one line.
            yield f'{head[:-1]}, "payload": {_on_one_line(payload)}}}\n'


def _on_one_line(payload: str) -> str:
    return payload.replace("\r", " ").replace("\n", " ") or "null"


def _csv(selection: DeadLetterFilter) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield "\ufeff" + writer.writerow(COLUMNS)  # so that a spreadsheet knows it for UTF-8
    for batch in _batches(selection, with_payload=False):
        yield "".join(writer.writerow([harmless(row[name]) for name in COLUMNS]) for row in batch)


def harmless(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula, nor any part of it where another sign parts the cells."""
    text = "" if value is None else str(_plain(value) if isinstance(value, datetime | UUID) else value)
    text = _PARTED.sub(r"\1'", text)
    return f"'{text}" if text.lstrip(" \u00a0\ufeff").startswith(_FORMULA) else text


def _batches(selection: DeadLetterFilter, *, with_payload: bool) -> Iterator[list[dict[str, Any]]]:
    found: QuerySet[Any] = selection.matching().order_by("-id")
    if with_payload:
        short = Case(When(size__lte=TOGETHER, then=F("payload")), default=Value(None))
        found = found.annotate(size=Length("payload"), text=short)
    wanted = [_PATHS.get(name, name) for name in COLUMNS] + (["text"] if with_payload else [])
    names = [*COLUMNS, *(["payload"] if with_payload else [])]
    last: UUID | None = None
    while True:
        rows = list((found.filter(pk__lt=last) if last else found).values_list(*wanted)[:BATCH])
        if not rows:
            return
        yield [dict(zip(names, row, strict=True)) for row in rows]
        last = rows[-1][0]


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text
