"""What was archived comes back once, as it was; what is damaged, and what has moved on, is told."""

from datetime import timedelta
from pathlib import Path

import pytest

from reliability.core import clock
from reliability.dead_letters import archive, archive_restore, create, replay
from reliability.dead_letters.archive_restore import DamagedArchive
from reliability.dead_letters.archive_store import StorageFailed
from reliability.formats import archive_format
from reliability.models import (
    Archive,
    AuditEntry,
    DeadLetter,
    DeathRollup,
    Delivery,
    FailureGroup,
    error_fields,
)

from ..support.archives import ACTOR, bring_back, files, the_archive

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

pytestmark = pytest.mark.django_db(transaction=True)


def group() -> FailureGroup:
    return FailureGroup.objects.get()


def test_groups_count_what_left_and_what_came_back_and_no_death_twice(letters, folder):
    letters(4)
    assert (group().dead, group().seen) == (4, 4)
    deaths = sum(DeathRollup.objects.filter(grain="hour").values_list("count", flat=True))
    archive.archive_expired(now=clock.now())
    assert (group().dead, group().seen) == (0, 4)
    DeadLetter.objects.all().delete()
    bring_back()
    assert (group().dead, group().seen) == (4, 4)
    assert sum(DeathRollup.objects.filter(grain="hour").values_list("count", flat=True)) == deaths == 4


@pytest.mark.parametrize("is_gone", [False, True])
def test_it_comes_back_as_it_was_and_once(letters, folder, is_gone):
    made = letters(3)
    before = {one.pk: (one.payload, one.error_message, one.died_at, one.delivery_id) for one in made}
    archive.archive_expired(now=clock.now())
    if is_gone:
        DeadLetter.objects.all().delete()
        Delivery.objects.all().delete()
    outcome = bring_back()
    assert (outcome.matched, outcome.restored, outcome.skipped) == (3, 3, {})
    back = DeadLetter.objects.filter(status="dead")
    assert {one.pk: (one.payload, one.error_message, one.died_at, one.delivery_id) for one in back} == before
    assert all(one.expires_at > clock.now() + 23 * HOUR and one.closed_at is None for one in back)
    assert {one.idempotency_key for one in Delivery.objects.all()} == {"key-0", "key-1", "key-2"}
    again = bring_back()
    assert (again.restored, again.skipped) == (0, {"already restored": 3})
    DeadLetter.objects.all().delete()
    assert bring_back().restored == 0  # whatever became of them since
    assert AuditEntry.objects.filter(action="restore_archive").count() == 1


def test_a_replay_of_a_restored_letter_goes_under_its_first_key(letters, folder):
    (made,) = letters(1)
    archive.archive_expired(now=clock.now())
    DeadLetter.objects.all().delete()
    Delivery.objects.all().delete()
    bring_back()
    done = replay.replay(dead_letter_id=made.pk, actor=ACTOR, now=clock.now())
    assert Delivery.objects.get(pk=done.delivery_id).idempotency_key == "key-0"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [({"workflow": "echo"}, 2), ({"workflow": "other"}, 1), ({"tenant": "acme"}, 0), ({"workflow": "none"}, 0)],
)
def test_some_of_it_comes_back(letters, folder, wanted, count):
    letters(2), letters(1, slug="other", with_delivery=False)
    archive.archive_expired(now=clock.now())
    assert bring_back(**wanted, dry_run=True).restored == count
    assert not DeadLetter.objects.filter(status="dead").exists()
    assert bring_back(**wanted).restored == count
    assert DeadLetter.objects.filter(status="dead").count() == count


def test_single_letters_come_back(letters, folder):
    made = letters(3)
    archive.archive_expired(now=clock.now())
    assert bring_back(ids=frozenset({made[1].pk})).restored == 1
    assert DeadLetter.objects.get(status="dead").pk == made[1].pk
    assert bring_back().restored == 2


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_a_flipped_bit_is_named_and_nothing_comes_back(letters, folder):
    letters(120)
    archive.archive_expired(now=clock.now())
    data, _ = files(folder)
    first = the_archive().manifest["blocks"][0][1]
    flip(data, first + 60)  # within the second block: lines 51 to 100
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    bad = [int(problem.rpartition("line ")[2].partition(":")[0]) for problem in refused.value.problems]
    assert all(data.name in problem for problem in refused.value.problems)
    assert bad
    assert set(bad) <= set(range(51, 101))
    assert not DeadLetter.objects.filter(status="dead").exists()
    outcome = bring_back(skip_damaged=True)
    assert (outcome.restored, len(outcome.problems)) == (120 - len(bad), len(bad))
    assert DeadLetter.objects.filter(status="dead").exclude(payload="").count() == 120 - len(bad)


def test_a_damaged_manifest_is_named_and_the_databases_copy_serves(letters, folder):
    letters(3)
    archive.archive_expired(now=clock.now())
    _, manifest = files(folder)
    flip(manifest, manifest.read_bytes().index(b'"letters"') + 12)
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    assert manifest.name in refused.value.problems[0]
    assert bring_back(skip_damaged=True).restored == 3


@pytest.mark.parametrize(("cut", "text"), [(-5, "bytes too few"), (0, "bytes too many")])
def test_a_file_of_another_length_is_damaged(letters, folder, cut, text):
    letters(2)
    archive.archive_expired(now=clock.now())
    data, _ = files(folder)
    data.write_bytes(data.read_bytes()[:cut] if cut else data.read_bytes() + b"more")
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    assert text in refused.value.problems[-1]


def test_where_the_manifest_is_gone_the_databases_copy_serves(letters, folder):
    letters(3)
    archive.archive_expired(now=clock.now())
    files(folder)[1].unlink()
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    assert "the database's copy" in refused.value.problems[0]
    assert bring_back(skip_damaged=True).restored == 3


def test_what_came_back_before_a_crash_is_on_record(letters, folder, monkeypatch):
    monkeypatch.setattr(archive_format, "BLOCK_LINES", 1)
    letters(3)
    archive.archive_expired(now=clock.now())
    plain, seen = archive_restore._restore_one, []

    def dying(*args, **values):
        seen.append(args)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return plain(*args, **values)

    monkeypatch.setattr(archive_restore, "_restore_one", dying)
    with pytest.raises(KeyboardInterrupt):
        bring_back()
    assert DeadLetter.objects.filter(status="dead").count() == 2
    assert sum(AuditEntry.objects.filter(action="restore_archive").values_list("count", flat=True)) == 2


def test_a_file_that_is_gone_is_told(letters, folder):
    letters(1)
    archive.archive_expired(now=clock.now())
    files(folder)[0].unlink()
    with pytest.raises(StorageFailed, match=r"jsonl\.gz cannot be read"):
        bring_back()


def test_after_the_loss_of_a_database_the_files_alone_serve(letters, folder):
    made = letters(2)
    archive.archive_expired(now=clock.now())
    name = the_archive().name
    for model in (DeadLetter, Delivery, Archive):
        model.objects.all().delete()
    assert archive_restore.unknown_files() == [name]
    archive_restore.adopt(name=name, now=clock.now())
    assert bring_back().restored == 2
    assert set(DeadLetter.objects.values_list("pk", flat=True)) == {one.pk for one in made}
    assert bring_back().restored == 0


@pytest.mark.parametrize("is_late", [False, True])
def test_a_letter_whose_delivery_died_again_is_passed_by_and_others_come_back(letters, folder, monkeypatch, is_late):
    first, second = letters(2)
    archive.archive_expired(now=clock.now())
    DeadLetter.objects.all().delete()
    died = {"created_at": clock.now(), "died_at": clock.now(), "expires_at": clock.now() + DAY}
    why = error_fields(code="x", message="x")
    new = DeadLetter.objects.create(lane=first.lane, delivery=first.delivery, source="delivery", **why, **died)
    outcome = bring_back(dry_run=True)
    assert (outcome.restored, outcome.skipped) == (1, {archive_restore.HAS_OTHER_DEAD_LETTER: 1})
    if is_late:  # it was not there yet at the first look
        looks, real = iter([False]), archive_restore._has_other_dead_letter
        monkeypatch.setattr(
            archive_restore, "_has_other_dead_letter", lambda letter: next(looks, None) is None and real(letter)
        )
    outcome = bring_back()
    assert (outcome.restored, outcome.skipped) == (1, {archive_restore.HAS_OTHER_DEAD_LETTER: 1})
    assert set(DeadLetter.objects.values_list("pk", flat=True)) == {new.pk, second.pk}
    assert len(the_archive().restored) == 1


def test_letters_of_a_workflow_that_is_gone_are_told(letters, folder):
    (made,) = letters(1, with_delivery=False)
    archive.archive_expired(now=clock.now())
    lane = made.lane
    DeadLetter.objects.all().delete()
    FailureGroup.objects.all().delete()
    lane.breaker.delete(), lane.delete(), lane.workflow.delete()
    assert bring_back().skipped == {"there is no workflow 'echo' any more": 1}


def test_what_was_reported_without_a_delivery_comes_back_too(workflow, folder):
    workflow()
    made = create.from_api(report=create.Report("echo", "default", '{"a": 1}', "boom"), now=clock.now() - 25 * HOUR)
    assert archive.archive_expired(now=clock.now()).count == 1
    DeadLetter.objects.all().delete()
    assert bring_back().restored == 1
    back = DeadLetter.objects.get()
    assert (back.pk, back.payload, back.source, back.delivery_id) == (made.pk, '{"a": 1}', "api", None)
