"""Moves dead letters past their TTL into archive files, from which `archive_restore` restores them.

1. Reserve: insert a row in state `writing`. A constraint allows one at a time. Abandoned ones are removed first.
2. Write the file and its manifest to the storage, and read both back.
3. In one transaction, the row becomes `kept`, and each dead letter whose row is unchanged becomes `archived` and loses
   its payload. The lines of dead letters that changed in the meantime are listed as withdrawn.

Until step 3 commits, the table holds every payload and the file has no effect. Afterwards the file is the only copy of
the payloads. The state of the archive's row says which of the two holds.
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

# A writer whose database session has ended is recognised at once. The lease covers a writer behind a pooler, whose
# session can live on after it.
LEASE = timedelta(minutes=5)
FILE_BYTES = 32 * 1024 * 1024
READ_BYTES = 4 * 1024 * 1024
ACTOR = Actor(name="cleanup", reason="past its time to live")

# Demo data is excluded: nobody needs an archive of it.
_EXPIRED = "FROM reliability_deadletter WHERE status = 'dead' AND expires_at <= %(now)s AND id::text NOT LIKE %(demo)s"
SELECT_EXPIRED = f"SELECT id, octet_length(payload) {_EXPIRED} ORDER BY expires_at LIMIT %(limit)s"
COUNT_EXPIRED = f"SELECT count(*) FROM (SELECT 1 {_EXPIRED} LIMIT %(limit)s) AS due"
READ_ROWS = """
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
# `xmin` is the id of the transaction that last wrote the row. If it still has the value that was read with the payload,
# the file holds the row as it is now. SKIP LOCKED: a row that another transaction holds is about to change, so it is
# withdrawn from the file instead of waited for.
MARK_ARCHIVED = """
WITH written AS (SELECT * FROM unnest(%(ids)s::uuid[], %(versions)s::text[]) AS t(id, version)), same AS (
    SELECT l.id FROM reliability_deadletter l JOIN written ON written.id = l.id
    WHERE l.status = 'dead' AND l.xmin::text = written.version ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
)
UPDATE reliability_deadletter l SET status = 'archived', payload = '', closed_at = %(now)s, archive_id = %(archive)s
FROM same WHERE l.id = same.id RETURNING l.id
"""
# A process id alone can be reused by a later session; with the session's start it is unique.
SESSION = "SELECT pid || '@' || backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
STALE_WRITERS = """
SELECT a.id FROM reliability_archive a WHERE a.state = 'writing' AND (a.lease_until < %s
    OR NOT EXISTS (SELECT 1 FROM pg_stat_activity s WHERE s.pid || '@' || s.backend_start = a.writer))
"""


class ArchiveBusy(BackstopError):
    """Another clean-up is writing an archive."""

    status = 409
    code = "archive_busy"


@dataclass(frozen=True, slots=True)
class ArchivedBatch:
    """How many dead letters were archived, and whether more are due."""

    count: int
    is_more: bool = False


@dataclass(slots=True)
class _WrittenFile:
    """The dead letters of a file in the order of its lines: ids, row versions (`xmin`), figures for the manifest."""

    ids: list[UUID]
    versions: list[str]
    workflows: Counter[str]
    died: list[str]


def count_expired(*, now: datetime, limit: int) -> int:
    """Return how many dead letters are past their TTL, up to `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT_EXPIRED, {"now": now, "demo": DEMO_PATTERN, "limit": limit})
        return int(cursor.fetchone()[0])


def archive_expired(*, now: datetime) -> ArchivedBatch:
    """Archive one file of the dead letters that are past their TTL at `now`, oldest first.

    Raises `ArchiveBusy` if another clean-up is writing an archive, and `StorageFailed`. In both cases the table is
    unchanged.
    """
    remove_abandoned()
    chosen = _select_expired(now)
    if not chosen:
        return ArchivedBatch(0)
    archive = _reserve(now)
    try:
        written = _write(archive, chosen, now)
        left = _mark_archived(archive, written, now)
    except BaseException:
        # A failure of the cleaning up must not hide the first error. The row keeps what is left to remove.
        with suppress(Exception):
            abandon(archive_id=archive.pk)
            if not Archive.objects.filter(pk=archive.pk).exists():
                # Another clean-up deleted the row before this one wrote the files: nothing else knows of them.
                archive_store.remove(name=archive.name)
        raise
    if not left:
        abandon(archive_id=archive.pk)
    return ArchivedBatch(left, is_more=bool(left) and count_expired(now=now, limit=1) > 0)


def remove_abandoned() -> None:
    """Abandon archives whose writer is dead, and remove the files of abandoned ones.

    A file that cannot be removed has no effect: it is logged, and archiving goes on.
    """
    with connection.cursor() as cursor:
        cursor.execute(STALE_WRITERS, [clock.now()])
        stale = [row[0] for row in cursor.fetchall()]
    abandoned = Archive.objects.filter(state=ArchiveState.ABANDONED).values_list("pk", flat=True)
    for archive_id in [*stale, *abandoned]:
        try:
            abandon(archive_id=archive_id)
        except archive_store.StorageFailed as error:
            logger.warning("archive_not_removed", extra={"archive": str(archive_id), "error": str(error)})


def abandon(*, archive_id: UUID) -> None:
    """Mark an archive as abandoned, remove its files, then delete its row. A kept archive is left alone.

    In this order a crash leaves a row that names the files, so that the next clean-up removes them.
    """
    Archive.objects.filter(pk=archive_id, state=ArchiveState.WRITING).update(state=ArchiveState.ABANDONED)
    archive = Archive.objects.filter(pk=archive_id, state=ArchiveState.ABANDONED).first()
    if archive is not None:
        archive_store.remove(name=archive.name)
        archive.delete()


def _select_expired(now: datetime) -> list[tuple[UUID, int]]:
    """Return ids and payload sizes (bytes) of the next file: up to `ARCHIVE_FILE_LETTERS` rows or `FILE_BYTES`."""
    values: dict[str, Any] = {"now": now, "demo": DEMO_PATTERN, "limit": settings.ARCHIVE_FILE_LETTERS}
    with connection.cursor() as cursor:
        cursor.execute(SELECT_EXPIRED, values)
        rows = cursor.fetchall()
    chosen: list[tuple[UUID, int]] = []
    total = 0
    for row in rows:
        total += row[1]
        if chosen and total > FILE_BYTES:
            break
        chosen.append(row)
    return chosen


def _reserve(now: datetime) -> Archive:
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        row = cursor.fetchone()
    # A long clean-up passes one `now` to all of its batches, so the lease starts from the clock instead.
    made = Archive(pk=uuid7(), created_at=now, lease_until=clock.now() + LEASE, writer=row[0] if row else "")
    made.name = f"{archive_store.FOLDER}/{now:%Y/%m}/{now:%Y%m%dT%H%M%SZ}-{made.pk}"
    # A unique constraint allows one row in state `writing`: of two clean-ups, the insert of one has no effect.
    Archive.objects.bulk_create([made], ignore_conflicts=True)
    if not Archive.objects.filter(pk=made.pk).exists():
        raise ArchiveBusy
    return made


def _write(archive: Archive, chosen: Sequence[tuple[UUID, int]], now: datetime) -> _WrittenFile:
    written = _WrittenFile([], [], Counter(), [])

    def facts() -> dict[str, Any]:
        return {
            "id": str(archive.pk),
            "created_at": now.isoformat(),
            "died_from": min(written.died, default=None),
            "died_until": max(written.died, default=None),
            "workflows": dict(sorted(written.workflows.items())),
        }

    archive.manifest = archive_store.write(name=archive.name, letters=_read_dead_letters(chosen, written), facts=facts)
    return written


def _read_dead_letters(chosen: Sequence[tuple[UUID, int]], written: _WrittenFile) -> Iterator[dict[str, Any]]:
    """Yield the dead letters, with at most about `READ_BYTES` of payloads in memory, and note each in `written`."""
    for ids in _batches_by_size(chosen):
        with connection.cursor() as cursor:
            cursor.execute(READ_ROWS, {"ids": ids})
            rows = cursor.fetchall()
        for version, text, payload in rows:
            letter = {**json.loads(text), "payload": payload}
            written.ids.append(UUID(letter["id"]))
            written.versions.append(version)
            written.workflows[letter["workflow"]] += 1
            written.died.append(letter["died_at"])
            yield letter


def _batches_by_size(chosen: Sequence[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    batch: list[UUID] = []
    total = 0
    for letter_id, size in chosen:
        if batch and total + size > READ_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(letter_id)
        total += size
    if batch:
        yield batch


def _mark_archived(archive: Archive, written: _WrittenFile, now: datetime) -> int:
    """Mark the dead letters that are unchanged since they were read as archived; return how many.

    Raises `ArchiveBusy` if another clean-up has abandoned this archive in the meantime.
    """
    values: dict[str, Any] = {"ids": written.ids, "versions": written.versions, "now": now, "archive": archive.pk}
    with transaction.atomic():
        # The row count decides: a clean-up that took this writer for dead has set `abandoned`, and removes the files.
        own = Archive.objects.filter(pk=archive.pk, state=ArchiveState.WRITING)
        if not own.update(state=ArchiveState.KEPT, kept_at=clock.now()):
            raise ArchiveBusy("Writing took too long, and another clean-up took over. Nothing was archived.")
        with connection.cursor() as cursor:
            cursor.execute(MARK_ARCHIVED, values)
            left = {row[0] for row in cursor.fetchall()}
        if not left:
            transaction.set_rollback(True)  # every row has changed since: the file has no effect
            return 0
        withdrawn = [number for number, one in enumerate(written.ids, start=1) if one not in left]
        Archive.objects.filter(pk=archive.pk).update(
            letters=len(left), size=archive.manifest["size"], manifest=archive.manifest, withdrawn=withdrawn
        )
        details = {"name": archive.name, "sha256": archive.manifest["sha256"]}
        audit.record(actor=ACTOR, action="archive", now=now, target=archive, count=len(left), details=details)
    return len(left)
