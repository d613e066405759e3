"""Restores archived dead letters to the queue, each once, after checking the archive's checksums.

A restored dead letter has status `dead` and a new TTL. If its row still exists, it gets its payload back. Otherwise the
row is created again, with its delivery, whose idempotency key its replays use. The rows of a block and the record of
which lines were restored commit together, so an interrupted restore continues with the next block.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import BackstopError, Conflict, NotFound
from reliability.formats import archive_format
from reliability.formats.archive_format import Damaged, Line
from reliability.lanes import opening
from reliability.models import Archive, ArchiveState, DeadLetter, DeadLetterStatus, Delivery, Lane, Workflow

from . import archive_store

# Creating a row again fires the trigger that counts failures by group. The failure was counted when it happened, so the
# pending change of this transaction is set back to 0 for groups that exist.
RESET_SEEN_COUNT = """
UPDATE backstop_outbox c SET seen = 0 WHERE c.xact = pg_current_xact_id() AND c.kind = 'failure' AND EXISTS (
    SELECT 1 FROM reliability_failuregroup g WHERE g.workflow_id = c.workflow_id AND g.fingerprint = c.fingerprint)
"""
HAS_OTHER_DEAD_LETTER = "its delivery has another dead letter in the queue"
DELIVERY_FIELDS = (
    "idempotency_key",
    "state",
    "source",
    "attempt_count",
    "retries_used",
    "due_at",
    "created_at",
    "expires_at",
    "finished_at",
    "sent_at",
    "last_error",
    "stale",
)
DEAD_LETTER_FIELDS = (
    "source",
    "payload",
    "error_code",
    "error_message",
    "reason",
    "fingerprint",
    "retry_count",
    "execution_id",
    "execution_url",
    "created_at",
    "died_at",
)


class DamagedArchive(BackstopError):
    """The archive is damaged; nothing was restored."""

    status = 409
    code = "archive_damaged"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The archive is damaged; nothing was restored.")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ArchiveFilter:
    """Selects dead letters of an archive by id, workflow slug and tenant. An empty field selects all."""

    ids: frozenset[UUID] = frozenset()
    workflow: str = ""
    tenant: str = ""

    def matches(self, letter: Mapping[str, Any]) -> bool:
        return (
            (not self.ids or UUID(letter["id"]) in self.ids)
            and self.workflow in ("", letter["workflow"])
            and self.tenant in ("", letter["tenant"])
        )


@dataclass(slots=True)
class RestoreResult:
    """How many dead letters matched and were restored; `skipped` counts the others by reason."""

    matched: int
    restored: int
    skipped: dict[str, int]
    problems: list[str]


def find(*, name: str) -> Archive:
    """Return the archive with this id, name, last part of the name, or file name. Raises `NotFound`."""
    stem = name.removesuffix(archive_store.DATA).removesuffix(archive_store.MANIFEST)
    kept = Archive.objects.filter(state=ArchiveState.KEPT)
    last = stem.rpartition("/")[2]
    found = kept.filter(name=stem).first() or kept.filter(name__endswith=f"/{last}").first()
    if found is None and len(last) >= 36:
        try:
            found = kept.filter(pk=UUID(last[-36:])).first()
        except ValueError:
            found = None
    if found is None:
        raise NotFound(f"There is no archive '{name}'; --list shows all.")
    return found


def unknown_files() -> list[str]:
    """Return the archives in the storage that have no row here: left by a crash, or by another installation."""
    return sorted(archive_store.names() - set(Archive.objects.values_list("name", flat=True)))


def adopt(*, name: str, now: datetime) -> Archive:
    """Create the row of an archive whose files exist without one, for example after the loss of a database.

    Raises `NotFound`, `DamagedArchive`, and `Conflict` if the row exists.
    """
    stem = name.removesuffix(archive_store.DATA).removesuffix(archive_store.MANIFEST)
    if Archive.objects.filter(name=stem).exists():
        raise Conflict("This archive is registered already.")
    if stem not in archive_store.names():
        raise NotFound(f"The storage has no archive '{stem}'.")
    try:
        manifest = archive_store.read_manifest(name=stem)
    except Damaged as error:
        raise DamagedArchive([f"{error}."]) from None
    times = {"created_at": manifest["created_at"], "kept_at": now, "lease_until": now}
    sizes = {"letters": manifest["letters"], "size": manifest["size"]}
    known = {"id": UUID(manifest["id"]), "name": stem, "state": ArchiveState.KEPT, "manifest": manifest}
    return Archive.objects.create(**known, **times, **sizes)


def restore(
    *,
    archive: Archive,
    actor: Actor,
    now: datetime,
    selection: ArchiveFilter,
    skip_damaged: bool = False,
    dry_run: bool = False,
) -> RestoreResult:
    """Restore the selected dead letters of an archive.

    Raises `StorageFailed`, and `DamagedArchive` unless `skip_damaged`.
    """
    manifest, problems = _check(archive)
    if problems and not skip_damaged:
        raise DamagedArchive(problems)
    outcome = RestoreResult(0, 0, {}, problems)
    for block, data in archive_store.read(name=archive.name, manifest=manifest):
        # A generator: of a block's decoded lines, one at a time is in memory.
        lines = archive_format.read_block(block, data, line_limit=archive_store.line_limit())
        chosen = (line for line in lines if line.letter is not None and selection.matches(line.letter))
        _restore_block(archive, chosen, outcome, actor=actor, now=now, dry_run=dry_run)
    return outcome


def _check(archive: Archive) -> tuple[Mapping[str, Any], list[str]]:
    """Return the manifest, and everything that is wrong with the archive, by file and line."""
    problems, manifest = [], archive.manifest
    try:
        manifest = archive_store.read_manifest(name=archive.name)
    except (Damaged, archive_store.StorageFailed) as error:
        problems.append(f"{str(error).rstrip('.')}; the database's copy of it serves.")
    if manifest["sha256"] != archive.manifest["sha256"]:
        problems.append(f"{archive.name}{archive_store.MANIFEST}: it is not the one of this archive.")
        manifest = archive.manifest
    file = f"{archive.name}{archive_store.DATA}"
    for block, data in archive_store.read(name=archive.name, manifest=manifest):
        lines = archive_format.read_block(block, data, line_limit=archive_store.line_limit())
        bad = [f"{file}, line {line.number}: {line.problem}." for line in lines if line.letter is None]
        problems += bad
        if not bad and not archive_format.is_whole(block, data):
            last = block.first_line + block.lines - 1
            # Each line has its own checksum: damage between the lines does not make their content unusable.
            problems.append(f"{file}, lines {block.first_line} to {last}: damaged around them; they are whole.")
    if extra := archive_store.size_difference(name=archive.name, manifest=manifest):
        problems.append(f"{file}: {abs(extra)} bytes too {'many' if extra > 0 else 'few'}.")
    return manifest, problems


def _restore_block(
    archive: Archive, lines: Iterable[Line], outcome: RestoreResult, *, actor: Actor, now: datetime, dry_run: bool
) -> None:
    """Restore a block, with its line numbers and audit entry, in one transaction."""
    with transaction.atomic():
        # Two restores of one archive go one after the other: each reads which lines the other has restored.
        row = Archive.objects.select_for_update(no_key=True).get(pk=archive.pk)
        done = []
        for line in lines:
            outcome.matched += 1
            reason = _skip_reason(row, line) or _restore_one(row, line.letter or {}, now=now, dry_run=dry_run)
            if reason:
                outcome.skipped[reason] = outcome.skipped.get(reason, 0) + 1
            else:
                done.append(line.number)
        outcome.restored += len(done)
        if done and not dry_run:
            with connection.cursor() as cursor:
                cursor.execute(RESET_SEEN_COUNT)
            Archive.objects.filter(pk=row.pk).update(restored=sorted({*row.restored, *done}))
            details = {"name": row.name, "damaged": len(outcome.problems)}
            audit.record(actor=actor, action="restore_archive", now=now, target=row, count=len(done), details=details)


def _skip_reason(row: Archive, line: Line) -> str:
    if line.number in row.restored:
        return "already restored"
    return "it changed while the archive was written" if line.number in row.withdrawn else ""


def _restore_one(row: Archive, letter: Mapping[str, Any], *, now: datetime, dry_run: bool) -> str:
    """Restore one dead letter; return an empty text, or why it is skipped."""
    # Locked, so that a clean-up that deletes or archives the row again cannot run in between.
    known = DeadLetter.objects.select_for_update(no_key=True).filter(pk=letter["id"]).first()
    if known is not None and (known.status, known.archive_id) != (DeadLetterStatus.ARCHIVED, row.pk):
        return f"it is {known.status} in the queue" if known.archive_id is None else "it is in a later archive"
    workflow = Workflow.objects.filter(slug=letter["workflow"]).first()
    if workflow is None:
        return f"there is no workflow '{letter['workflow']}' any more"
    if known is None and _has_other_dead_letter(letter):
        return HAS_OTHER_DEAD_LETTER
    if dry_run:
        return ""
    if known is None:
        lane = opening.open_lane(workflow_id=workflow.pk, tenant=letter["tenant"])
        known = _recreate(letter, lane, row)
    if known is None:
        return HAS_OTHER_DEAD_LETTER
    # A row that was just created is `archived` too. The change to `dead` makes the triggers count it as dead now, and
    # not as a new failure.
    DeadLetter.objects.filter(pk=known.pk).update(
        status=DeadLetterStatus.DEAD,
        payload=letter["payload"],
        closed_at=None,
        archive=None,
        expires_at=now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
    )
    return ""


def _has_other_dead_letter(letter: Mapping[str, Any]) -> bool:
    """Whether the delivery has another dead letter by now: a unique constraint allows one per delivery."""
    document = letter["delivery"]
    return document is not None and DeadLetter.objects.filter(delivery_id=document["id"]).exists()


def _recreate(letter: Mapping[str, Any], lane: Lane, row: Archive) -> DeadLetter | None:
    """Create a deleted row again; return `None` if its delivery has another dead letter by now."""
    values = {name: letter[name] for name in DEAD_LETTER_FIELDS}
    status = DeadLetterStatus.ARCHIVED
    delivery_id = _recreate_delivery(letter, lane)
    ends = {"expires_at": letter["expires_at"], "closed_at": row.kept_at}
    try:
        # A savepoint: a conflict ends only this insert, and not the transaction of the whole block.
        with transaction.atomic():
            return DeadLetter.objects.create(
                pk=letter["id"], lane=lane, delivery_id=delivery_id, status=status, archive=row, **values, **ends
            )
    except IntegrityError:
        if _has_other_dead_letter(letter):
            return None
        raise


def _recreate_delivery(letter: Mapping[str, Any], lane: Lane) -> UUID | None:
    """Return the id of the failed delivery, created again if it was deleted.

    Returns `None` if another delivery uses its idempotency key by now: the insert has no effect then.
    """
    document = letter["delivery"]
    if document is None:
        return None
    values = {name: document[name] for name in DELIVERY_FIELDS}
    digest = bytes.fromhex(document["payload_digest"])
    made = Delivery(pk=document["id"], lane=lane, payload=letter["payload"], payload_digest=digest, **values)
    Delivery.objects.bulk_create([made], ignore_conflicts=True)
    return UUID(document["id"]) if Delivery.objects.filter(pk=document["id"]).exists() else None
