"""Takes dead letters past their TTL out of the queue, into files that `restore` brings them back from.

1. Announce: a row `writing`, of which there is one at a time; what a dead one left is given up and removed first.
2. Write the file and its manifest to the storage, and read both back.
3. In one transaction: the row becomes `kept`, and the letters that are still as they were written become `archived`,
   without their payload. Lines of letters that moved on meanwhile are noted as withdrawn.

Whatever breaks before 3 commits, no letter has left, and the file is of no effect; after it, the file is the one place
of their payloads. The database tells both apart, by the row's state.
"""

# ruff: noqa: S608  # statements are put together from our own words

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from reliability.core import audit, clock
from reliability.core.audit import Actor
from reliability.errors import BackstopError
from reliability.models import Archive, ArchiveState
from reliability.models.ids import DEMO_PATTERN, uuid7

from . import archive_store

logger = logging.getLogger(__name__)

# For so long a writer is believed to be at work; its session's end is noticed at once.
LEASE = timedelta(minutes=5)
FILE_BYTES = 32 * 1024 * 1024
READ_BYTES = 4 * 1024 * 1024
ACTOR = Actor(name="cleanup", reason="past its time to live")

# Made-up letters are not for keeps.
_DUE = "FROM reliability_deadletter WHERE status = 'dead' AND expires_at <= %(now)s AND id::text NOT LIKE %(demo)s"
CHOOSE = f"SELECT id, octet_length(payload) {_DUE} ORDER BY expires_at LIMIT %(limit)s"
COUNT = f"SELECT count(*) FROM (SELECT 1 {_DUE} LIMIT %(limit)s) AS due"
READ = """
SELECT l.xmin::text, jsonb_build_object('id', l.id, 'workflow', w.slug, 'tenant', n.tenant, 'source', l.source,
    'error_code', l.error_code, 'error_message', l.error_message, 'reason', l.reason, 'fingerprint', l.fingerprint,
    'retry_count', l.retry_count, 'execution_id', l.execution_id, 'execution_url', l.execution_url,
    'created_at', l.created_at, 'died_at', l.died_at, 'expires_at', l.expires_at,
    'delivery', CASE WHEN d.id IS NOT NULL THEN jsonb_build_object('id', d.id, 'state', d.state,
        'idempotency_key', d.idempotency_key, 'payload_digest', encode(d.payload_digest, 'hex'), 'source', d.source,
        'attempt_count', d.attempt_count, 'retries_used', d.retries_used, 'due_at', d.due_at,
        'created_at', d.created_at, 'expires_at', d.expires_at, 'finished_at', d.finished_at, 'sent_at', d.sent_at,
        'last_error', d.last_error, 'stale', d.stale) END)::text, l.payload
FROM reliability_deadletter l JOIN reliability_lane n ON n.id = l.lane_id
    JOIN reliability_workflow w ON w.id = n.workflow_id LEFT JOIN reliability_delivery d ON d.id = l.delivery_id
WHERE l.id = ANY(%(ids)s) AND l.status = 'dead' ORDER BY l.expires_at, l.id
"""
# `xmin` tells whether the row is still the one that was written: whatever touches it, changes it.
LEAVE = """
WITH written AS (SELECT * FROM unnest(%(ids)s::uuid[], %(versions)s::text[]) AS t(id, version)), same AS (
    SELECT l.id FROM reliability_deadletter l JOIN written ON written.id = l.id
    WHERE l.status = 'dead' AND l.xmin::text = written.version ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
)
UPDATE reliability_deadletter l SET status = 'archived', payload = '', closed_at = %(now)s, archive_id = %(archive)s
FROM same WHERE l.id = same.id RETURNING l.id
"""
SESSION = "SELECT pid || '@' || backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
GONE = """
SELECT a.id FROM reliability_archive a WHERE a.state = 'writing' AND (a.lease_until < %s
    OR NOT EXISTS (SELECT 1 FROM pg_stat_activity s WHERE s.pid || '@' || s.backend_start = a.writer))
"""


class Busy(BackstopError):
    """Another clean-up is writing an archive."""

    status = 409
    code = "archive_busy"


@dataclass(frozen=True, slots=True)
class Kept:
    """How many letters left into the archive, and whether more are due."""

    letters: int
    is_more: bool = False


@dataclass(slots=True)
class _Written:
    """The letters of a file in the order of its lines, each with its row's version, and what is told of them all."""

    ids: list[UUID]
    versions: list[str]
    workflows: Counter[str]
    died: list[str]


def waiting(*, now: datetime, limit: int) -> int:
    """Return how many dead letters are past their TTL, up to `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, {"now": now, "demo": DEMO_PATTERN, "limit": limit})
        return int(cursor.fetchone()[0])


def keep(*, now: datetime) -> Kept:
    """Archive a file of the dead letters that are past their TTL at `now`, the oldest first.

    Raises `Busy` where another is at it, and `StorageFailed`; then nothing has left the table.
    """
    clear()
    chosen = _choose(now)
    if not chosen:
        return Kept(0)
    archive = _announce(now)
    try:
        written = _write(archive, chosen, now)
        left = _leave(archive, written, now)
    except BaseException:
        with suppress(Exception):  # what is to be told is what went wrong first; the row says what is left to clear
            give_up(archive_id=archive.pk)
            if not Archive.objects.filter(pk=archive.pk).exists():
                archive_store.remove(name=archive.name)  # another forgot it before its files were there
        raise
    if not left:
        give_up(archive_id=archive.pk)
    return Kept(left, is_more=bool(left) and waiting(now=now, limit=1) > 0)


def clear() -> None:
    """Give up what dead writers left, and remove the files of what was given up.

    A file that cannot be removed is of no effect, and keeps nothing from being archived.
    """
    with connection.cursor() as cursor:
        cursor.execute(GONE, [clock.now()])
        gone = [row[0] for row in cursor.fetchall()]
    given_up = Archive.objects.filter(state=ArchiveState.ABANDONED).values_list("pk", flat=True)
    for archive_id in [*gone, *given_up]:
        try:
            give_up(archive_id=archive_id)
        except archive_store.StorageFailed as error:
            logger.warning("archive_not_removed", extra={"archive": str(archive_id), "error": str(error)})


def give_up(*, archive_id: UUID) -> None:
    """Say that an archive is of no effect, then remove its files, then forget it. One that is kept stays."""
    Archive.objects.filter(pk=archive_id, state=ArchiveState.WRITING).update(state=ArchiveState.ABANDONED)
    archive = Archive.objects.filter(pk=archive_id, state=ArchiveState.ABANDONED).first()
    if archive is not None:
        archive_store.remove(name=archive.name)
        archive.delete()


def _choose(now: datetime) -> list[tuple[UUID, int]]:
    """Return the ids of a file's letters with their sizes: so many, or so many bytes."""
    values: dict[str, Any] = {"now": now, "demo": DEMO_PATTERN, "limit": settings.ARCHIVE_FILE_LETTERS}
    with connection.cursor() as cursor:
        cursor.execute(CHOOSE, values)
        rows = cursor.fetchall()
    chosen: list[tuple[UUID, int]] = []
    total = 0
    for row in rows:
        total += row[1]
        if chosen and total > FILE_BYTES:
            break
        chosen.append(row)
    return chosen


def _announce(now: datetime) -> Archive:
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        row = cursor.fetchone()
    # A long clean-up goes by one `now`; the lease is from this moment.
    made = Archive(pk=uuid7(), created_at=now, lease_until=clock.now() + LEASE, writer=row[0] if row else "")
    made.name = f"{archive_store.FOLDER}/{now:%Y/%m}/{now:%Y%m%dT%H%M%SZ}-{made.pk}"
    Archive.objects.bulk_create([made], ignore_conflicts=True)
    if not Archive.objects.filter(pk=made.pk).exists():
        raise Busy
    return made


def _write(archive: Archive, chosen: Sequence[tuple[UUID, int]], now: datetime) -> _Written:
    written = _Written([], [], Counter(), [])

    def facts() -> dict[str, Any]:
        return {
            "id": str(archive.pk),
            "created_at": now.isoformat(),
            "died_from": min(written.died, default=None),
            "died_until": max(written.died, default=None),
            "workflows": dict(sorted(written.workflows.items())),
        }

    archive.manifest = archive_store.write(name=archive.name, letters=_letters(chosen, written), facts=facts)
    return written


def _letters(chosen: Sequence[tuple[UUID, int]], written: _Written) -> Iterator[dict[str, Any]]:
    """Yield the letters, a few megabytes of them in memory at a time, and note what is written."""
    for ids in _portions(chosen):
        with connection.cursor() as cursor:
            cursor.execute(READ, {"ids": ids})
            rows = cursor.fetchall()
        for version, text, payload in rows:
            letter = {**json.loads(text), "payload": payload}
            written.ids.append(UUID(letter["id"]))
            written.versions.append(version)
            written.workflows[letter["workflow"]] += 1
            written.died.append(letter["died_at"])
            yield letter


def _portions(chosen: Sequence[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    portion: list[UUID] = []
    total = 0
    for letter_id, size in chosen:
        if portion and total + size > READ_BYTES:
            yield portion
            portion, total = [], 0
        portion.append(letter_id)
        total += size
    if portion:
        yield portion


def _leave(archive: Archive, written: _Written, now: datetime) -> int:
    """Have the letters leave that are still as they were written; return how many. Raises `Busy` where it came late."""
    values: dict[str, Any] = {"ids": written.ids, "versions": written.versions, "now": now, "archive": archive.pk}
    with transaction.atomic():
        mine = Archive.objects.filter(pk=archive.pk, state=ArchiveState.WRITING)
        if not mine.update(state=ArchiveState.KEPT, kept_at=clock.now()):
            raise Busy("The archive took so long that another clean-up has taken it for dead. Nothing has left.")
        with connection.cursor() as cursor:
            cursor.execute(LEAVE, values)
            left = {row[0] for row in cursor.fetchall()}
        if not left:
            transaction.set_rollback(True)  # none of them is as it was: the file is of no effect
            return 0
        withdrawn = [number for number, one in enumerate(written.ids, start=1) if one not in left]
        Archive.objects.filter(pk=archive.pk).update(
            letters=len(left), size=archive.manifest["size"], manifest=archive.manifest, withdrawn=withdrawn
        )
        details = {"name": archive.name, "sha256": archive.manifest["sha256"]}
        audit.record(actor=ACTOR, action="archive", now=now, target=archive, count=len(left), details=details)
    return len(left)
