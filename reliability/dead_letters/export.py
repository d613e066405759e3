"""Exports dead letters as JSON Lines or CSV, streamed in batches."""

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
# Characters. A longer payload is read by a query of its own, so that a batch of long ones does not fill the memory.
BATCHED_PAYLOAD_LIMIT = 64 * 1024
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
# A spreadsheet runs a cell that begins with one of these as a formula. The last four are their full-width forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")
# Some spreadsheets split quoted cells at semicolons, tabs or line ends: a formula may start there, too.
_AFTER_SEPARATOR = re.compile(r"""([;\t\r\n][ "'\u00a0]*)(?=[=+\-@＝＋－＠])""")


def export(*, selection: DeadLetterFilter, kind: str, actor: Actor, now: datetime) -> Iterator[str]:
    """Write the audit entry, and return the export in pieces; `kind` is `jsonl` or `csv`.

    Rows are newest first, as of when their batch is read. Only JSON Lines contains payloads.
    """
    count = selection.matching().count()
    details = {"filter": selection.as_json(), "format": kind}
    audit.record(actor=actor, action="export_dead_letters", now=now, count=count, details=details)
    return _jsonl(selection) if kind == "jsonl" else _csv(selection)


def _jsonl(selection: DeadLetterFilter) -> Iterator[str]:
    for batch in _batches(selection, with_payload=True):
        for row in batch:
            payload = row.pop("payload")
            if payload is None:
                payload = DeadLetter.objects.values_list("payload", flat=True).filter(pk=row["id"]).first() or ""
            head = json.dumps(row, ensure_ascii=False, default=_as_text)
            # The payload is JSON text: it is inserted as it is, so that numbers keep their digits. Line breaks between
            # its values become spaces: JSON Lines has one value per line.
            text = payload.replace("\r", " ").replace("\n", " ") or "null"
            yield f'{head[:-1]}, "payload": {text}}}\n'


def _csv(selection: DeadLetterFilter) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield "\ufeff" + writer.writerow(COLUMNS)  # the byte order mark tells spreadsheets that this is UTF-8
    for batch in _batches(selection, with_payload=False):
        yield "".join(writer.writerow([escape_formula(row[name]) for name in COLUMNS]) for row in batch)


def escape_formula(value: Any) -> str:
    """Return a cell's text with an apostrophe before everything that a spreadsheet would run as a formula."""
    text = "" if value is None else str(_as_text(value) if isinstance(value, datetime | UUID) else value)
    text = _AFTER_SEPARATOR.sub(r"\1'", text)
    return f"'{text}" if text.lstrip(" \u00a0\ufeff").startswith(_FORMULA) else text


def _batches(selection: DeadLetterFilter, *, with_payload: bool) -> Iterator[list[dict[str, Any]]]:
    found: QuerySet[Any] = selection.matching().order_by("-id")
    if with_payload:
        short = Case(When(size__lte=BATCHED_PAYLOAD_LIMIT, then=F("payload")), default=Value(None))
        found = found.annotate(size=Length("payload"), text=short)
    wanted = [_PATHS.get(name, name) for name in COLUMNS] + (["text"] if with_payload else [])
    names = [*COLUMNS, *(["payload"] if with_payload else [])]
    # Keyset pagination: OFFSET would read all earlier rows again for each batch.
    last: UUID | None = None
    while True:
        rows = list((found.filter(pk__lt=last) if last else found).values_list(*wanted)[:BATCH])
        if not rows:
            return
        yield [dict(zip(names, row, strict=True)) for row in rows]
        last = rows[-1][0]


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class _Echo:
    """A file whose `write` returns the text, so that `csv.writer` returns each row."""

    def write(self, text: str) -> str:
        return text
