"""Brings archived dead letters back into the queue, each once, from a file that is held against its checksums first.

A letter comes back as dead with a new TTL. One whose row is still there gets its payload back; one whose row is gone is
made again, with its delivery, whose key its replays go under. A block's letters and the note that they were restored
commit together: whoever stops it, it goes on there.
"""

from collections.abc import Iterable, Iterator, Mapping
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

# A row that is made again was counted among its group's when it died: here it is not once more.
NOT_SEEN_AGAIN = """
UPDATE backstop_outbox c SET seen = 0 WHERE c.xact = pg_current_xact_id() AND c.kind = 'failure' AND EXISTS (
    SELECT 1 FROM reliability_failuregroup g WHERE g.workflow_id = c.workflow_id AND g.fingerprint = c.fingerprint)
"""
DIED_AGAIN = "its delivery has another dead letter in the queue"
DELIVERY = (
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
LETTER = (
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
class Wanted:
    """Which of an archive's letters: all, some by id, or those of a workflow or tenant."""

    letters: frozenset[UUID] = frozenset()
    workflow: str = ""
    tenant: str = ""

    def takes(self, letter: Mapping[str, Any]) -> bool:
        return (
            (not self.letters or UUID(letter["id"]) in self.letters)
            and self.workflow in ("", letter["workflow"])
            and self.tenant in ("", letter["tenant"])
        )


@dataclass(slots=True)
class Outcome:
    """What came of it: letters that match, and of these brought back, or passed by, with why."""

    matched: int
    restored: int
    passed: dict[str, int]
    problems: list[str]


def find(*, name: str) -> Archive:
    """Return an archive by its id, its name, the last part of that, or one of its files'. Raises `NotFound`."""
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


def strangers() -> list[str]:
    """Return the names of files that no archive of ours goes by: left by a crash, or another installation's."""
    return sorted(archive_store.names() - set(Archive.objects.values_list("name", flat=True)))


def adopt(*, name: str, now: datetime) -> Archive:
    """Make known an archive of which only the files are left, as after the loss of a database.

    Raises `NotFound`, `DamagedArchive`, and `Conflict` where it is known already.
    """
    stem = name.removesuffix(archive_store.DATA).removesuffix(archive_store.MANIFEST)
    if Archive.objects.filter(name=stem).exists():
        raise Conflict("This archive is known already.")
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
    *, archive: Archive, actor: Actor, now: datetime, wanted: Wanted, skip_damaged: bool = False, dry_run: bool = False
) -> Outcome:
    """Bring an archive's letters back. Raises `DamagedArchive`, unless `skip_damaged`, and `StorageFailed`."""
    manifest, problems = _check(archive)
    if problems and not skip_damaged:
        raise DamagedArchive(problems)
    outcome = Outcome(0, 0, {}, problems)
    for lines in _blocks(archive, manifest):
        chosen = (line for line in lines if line.letter is not None and wanted.takes(line.letter))
        _restore_block(archive, chosen, outcome, actor=actor, now=now, dry_run=dry_run)
    return outcome


def _check(archive: Archive) -> tuple[Mapping[str, Any], list[str]]:
    """Return the manifest and all that is wrong with the archive, by file and line."""
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
            problems.append(f"{file}, lines {block.first_line} to {last}: damaged around them; they are whole.")
    if extra := archive_store.surplus(name=archive.name, manifest=manifest):
        problems.append(f"{file}: {abs(extra)} bytes too {'many' if extra > 0 else 'few'}.")
    return manifest, problems


def _blocks(archive: Archive, manifest: Mapping[str, Any]) -> Iterator[Iterator[Line]]:
    """Yield each block's lines; of a block, one letter at a time is in memory."""
    for block, data in archive_store.read(name=archive.name, manifest=manifest):
        yield archive_format.read_block(block, data, line_limit=archive_store.line_limit())


def _restore_block(
    archive: Archive, lines: Iterable[Line], outcome: Outcome, *, actor: Actor, now: datetime, dry_run: bool
) -> None:
    """Bring a block's letters back, noted and on record by the same transaction."""
    with transaction.atomic():
        row = Archive.objects.select_for_update(no_key=True).get(pk=archive.pk)
        done = []
        for line in lines:
            outcome.matched += 1
            reason = _why_not(row, line) or _restore_one(row, line.letter or {}, now=now, dry_run=dry_run)
            if reason:
                outcome.passed[reason] = outcome.passed.get(reason, 0) + 1
            else:
                done.append(line.number)
        outcome.restored += len(done)
        if done and not dry_run:
            with connection.cursor() as cursor:
                cursor.execute(NOT_SEEN_AGAIN)
            Archive.objects.filter(pk=row.pk).update(restored=sorted({*row.restored, *done}))
            details = {"name": row.name, "damaged": len(outcome.problems)}
            audit.record(actor=actor, action="restore_archive", now=now, target=row, count=len(done), details=details)


def _why_not(row: Archive, line: Line) -> str:
    if line.number in row.restored:
        return "restored before"
    return "it had moved on when the file was written" if line.number in row.withdrawn else ""


def _restore_one(row: Archive, letter: Mapping[str, Any], *, now: datetime, dry_run: bool) -> str:
    """Bring one letter back; return why not, where it cannot be."""
    known = DeadLetter.objects.select_for_update(no_key=True).filter(pk=letter["id"]).first()
    if known is not None and (known.status, known.archive_id) != (DeadLetterStatus.ARCHIVED, row.pk):
        return f"it is {known.status} in the queue" if known.archive_id is None else "it is in a later archive"
    workflow = Workflow.objects.filter(slug=letter["workflow"]).first()
    if workflow is None:
        return f"there is no workflow '{letter['workflow']}' any more"
    if known is None and _died_again(letter):
        return DIED_AGAIN
    if dry_run:
        return ""
    if known is None:
        lane = opening.open_lane(workflow_id=workflow.pk, tenant=letter["tenant"])
        known = _make(letter, lane, row)
    if known is None:
        return DIED_AGAIN
    # Made or still there, it is archived first: so that it counts as dead again, and not as having died again.
    DeadLetter.objects.filter(pk=known.pk).update(
        status=DeadLetterStatus.DEAD,
        payload=letter["payload"],
        closed_at=None,
        archive=None,
        expires_at=now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
    )
    return ""


def _died_again(letter: Mapping[str, Any]) -> bool:
    """Whether its delivery has another dead letter by now, of which there is one to a delivery."""
    said = letter["delivery"]
    return said is not None and DeadLetter.objects.filter(delivery_id=said["id"]).exists()


def _make(letter: Mapping[str, Any], lane: Lane, row: Archive) -> DeadLetter | None:
    """Make a row again that is gone; `None` where its delivery has died again meanwhile."""
    values = {name: letter[name] for name in LETTER}
    status = DeadLetterStatus.ARCHIVED
    delivery_id = _delivery(letter, lane)
    ends = {"expires_at": letter["expires_at"], "closed_at": row.kept_at}
    try:
        with transaction.atomic():
            return DeadLetter.objects.create(
                pk=letter["id"], lane=lane, delivery_id=delivery_id, status=status, archive=row, **values, **ends
            )
    except IntegrityError:
        if _died_again(letter):
            return None
        raise


def _delivery(letter: Mapping[str, Any], lane: Lane) -> UUID | None:
    """Return the delivery that died, made again if it is gone; none where its key has gone to another meanwhile."""
    said = letter["delivery"]
    if said is None:
        return None
    values = {name: said[name] for name in DELIVERY}
    digest = bytes.fromhex(said["payload_digest"])
    made = Delivery(pk=said["id"], lane=lane, payload=letter["payload"], payload_digest=digest, **values)
    Delivery.objects.bulk_create([made], ignore_conflicts=True)
    return UUID(said["id"]) if Delivery.objects.filter(pk=said["id"]).exists() else None
