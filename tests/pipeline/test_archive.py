"""The archive: nothing leaves before it is safely outside, whatever breaks; and it comes back once."""

import errno
import os
import stat
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connections

from reliability.models import (
    Archive,
    AuditEntry,
    DeadLetter,
    DeathRollup,
    Delivery,
    FailureGroup,
    Total,
    TotalName,
    error_fields,
    ids,
)
from reliability.pipeline import archive, archive_restore, archive_store, burial, clock, intake, replay, retention
from reliability.pipeline.archive_restore import DamagedArchive, Wanted
from reliability.pipeline.archive_store import StorageFailed
from reliability.pipeline.audit import Hand
from reliability.policies import archive_format

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HAND = Hand(actor="test", reason="a test")

pytestmark = pytest.mark.django_db(transaction=True)


class Full(FileSystemStorage):
    """A storage whose disk is full: of a file, the first half still fits."""

    def _save(self, name, content):
        data = content.read()
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Forgetful(FileSystemStorage):
    """A storage that loses a byte of what it is given."""

    def _save(self, name, content):
        saved = super()._save(name, content)
        path = Path(self.path(name))
        path.write_bytes(path.read_bytes()[:-1])
        return saved


@pytest.fixture
def folder(settings, tmp_path):
    """The archive's folder; the storage is made anew."""
    return use(settings, tmp_path / "archive")


def use(settings, location: Path, backend: str = "django.core.files.storage.FileSystemStorage") -> Path:
    modes = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
    options = {"BACKEND": backend, "OPTIONS": {"location": location, **modes}}
    settings.STORAGES = {**settings.STORAGES, "archive": options}
    return location


@pytest.fixture
def letters(workflow):
    """Make dead letters that expired an hour ago, each with the delivery that died."""

    def make(count: int, *, slug: str = "echo", with_delivery: bool = True, **values) -> list[DeadLetter]:
        now = clock.now()
        one = workflow(slug)
        lane = intake.open_lane(workflow_id=one.pk, tenant="default")
        made = []
        for n in range(count):
            payload = f'{{"n": {n}, "secret": "ü \\n"}}'
            times = {"due_at": now - 2 * DAY, "created_at": now - 2 * DAY, "finished_at": now - DAY}
            delivery = with_delivery and Delivery.objects.create(
                lane=lane, idempotency_key=f"key-{n}", payload=payload, payload_digest=b"\1" * 32, state="dead", **times
            )
            made.append(
                DeadLetter.objects.create(
                    lane=lane,
                    delivery=delivery or None,
                    source="delivery" if delivery else "api",
                    **error_fields(code="http_500", message="boom"),
                    **{
                        "payload": payload,
                        "created_at": now - DAY,
                        "died_at": now - DAY,
                        "expires_at": now - HOUR,
                        **values,
                    },
                )
            )
        return made

    return make


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def the_archive() -> Archive:
    return Archive.objects.get()


def bring_back(**values):
    wanted = Wanted(**{name: values.pop(name) for name in ("letters", "workflow", "tenant") if name in values})
    return archive_restore.restore(archive=the_archive(), hand=HAND, now=clock.now(), wanted=wanted, **values)


def group() -> FailureGroup:
    return FailureGroup.objects.get()


def expired() -> int:
    """How many have ever left for the archive, as the metrics tell it."""
    return sum(Total.objects.filter(name=TotalName.EXPIRED).values_list("count", flat=True))


def test_expired_letters_leave_with_file_manifest_and_record(letters, folder):
    made = letters(3)
    young = letters(1, slug="young", expires_at=clock.now() + HOUR)
    assert archive.keep(now=clock.now()) == archive.Kept(3)
    left = DeadLetter.objects.filter(status="archived")
    assert {(one.payload, one.archive_id, one.closed_at is None) for one in left} == {("", the_archive().pk, False)}
    assert set(left.values_list("pk", flat=True)) == {one.pk for one in made}
    assert DeadLetter.objects.get(status="dead").pk == young[0].pk
    data, manifest = files(folder)
    assert (data.name.endswith(".jsonl.gz"), manifest.name.endswith(".manifest.json")) == (True, True)
    said = the_archive().manifest
    assert (said["letters"], said["workflows"], said["version"]) == (3, {"echo": 3}, 1)
    assert said["died_from"] <= said["died_until"]
    assert said["size"] == data.stat().st_size
    entry = AuditEntry.objects.get(action="archive")
    assert (entry.count, entry.target_id, entry.details["sha256"]) == (3, str(the_archive().pk), said["sha256"])
    assert expired() == 3
    assert archive.keep(now=clock.now()) == archive.Kept(0)


def test_what_was_written_is_for_its_owner_alone(letters, folder):
    letters(1)
    archive.keep(now=clock.now())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(folder)} == {0o600}
    inside = [path for path in folder.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in inside} == {0o700}


def test_groups_count_what_left_and_what_came_back_and_no_death_twice(letters, folder):
    letters(4)
    assert (group().dead, group().seen) == (4, 4)
    deaths = sum(DeathRollup.objects.filter(grain="hour").values_list("count", flat=True))
    archive.keep(now=clock.now())
    assert (group().dead, group().seen) == (0, 4)
    DeadLetter.objects.all().delete()
    bring_back()
    assert (group().dead, group().seen) == (4, 4)
    assert sum(DeathRollup.objects.filter(grain="hour").values_list("count", flat=True)) == deaths == 4


@pytest.mark.parametrize("is_gone", [False, True])
def test_it_comes_back_as_it_was_and_once(letters, folder, is_gone):
    made = letters(3)
    before = {one.pk: (one.payload, one.error_message, one.died_at, one.delivery_id) for one in made}
    archive.keep(now=clock.now())
    if is_gone:
        DeadLetter.objects.all().delete()
        Delivery.objects.all().delete()
    outcome = bring_back()
    assert (outcome.matched, outcome.restored, outcome.passed) == (3, 3, {})
    back = DeadLetter.objects.filter(status="dead")
    assert {one.pk: (one.payload, one.error_message, one.died_at, one.delivery_id) for one in back} == before
    assert all(one.expires_at > clock.now() + 23 * HOUR and one.closed_at is None for one in back)
    assert {one.idempotency_key for one in Delivery.objects.all()} == {"key-0", "key-1", "key-2"}
    again = bring_back()
    assert (again.restored, again.passed) == (0, {"restored before": 3})
    DeadLetter.objects.all().delete()
    assert bring_back().restored == 0  # whatever became of them since
    assert AuditEntry.objects.filter(action="restore_archive").count() == 1


def test_a_replay_of_a_restored_letter_goes_under_its_first_key(letters, folder):
    (made,) = letters(1)
    archive.keep(now=clock.now())
    DeadLetter.objects.all().delete()
    Delivery.objects.all().delete()
    bring_back()
    done = replay.replay(dead_letter_id=made.pk, hand=HAND, now=clock.now())
    assert Delivery.objects.get(pk=done.delivery_id).idempotency_key == "key-0"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [({"workflow": "echo"}, 2), ({"workflow": "other"}, 1), ({"tenant": "acme"}, 0), ({"workflow": "none"}, 0)],
)
def test_some_of_it_comes_back(letters, folder, wanted, count):
    letters(2), letters(1, slug="other", with_delivery=False)
    archive.keep(now=clock.now())
    assert bring_back(**wanted, dry_run=True).restored == count
    assert not DeadLetter.objects.filter(status="dead").exists()
    assert bring_back(**wanted).restored == count
    assert DeadLetter.objects.filter(status="dead").count() == count


def test_single_letters_come_back(letters, folder):
    made = letters(3)
    archive.keep(now=clock.now())
    assert bring_back(letters=frozenset({made[1].pk})).restored == 1
    assert DeadLetter.objects.get(status="dead").pk == made[1].pk
    assert bring_back().restored == 2


def test_a_letter_that_moves_on_while_it_is_written_does_not_leave(letters, folder, monkeypatch):
    moving, staying, dying = letters(3)
    plain = archive_store.write

    def write(**values):
        done = plain(**values)
        replay.replay(dead_letter_id=moving.pk, hand=HAND, now=clock.now())
        DeadLetter.objects.filter(pk=dying.pk).update(retry_count=7)
        return done

    monkeypatch.setattr(archive_store, "write", write)
    assert archive.keep(now=clock.now()).letters == 1
    monkeypatch.undo()
    states = dict(DeadLetter.objects.values_list("pk", "status"))
    assert states == {moving.pk: "replaying", staying.pk: "archived", dying.pk: "dead"}
    assert len(the_archive().withdrawn) == 2
    DeadLetter.objects.all().update(status="recovered", closed_at=clock.now())
    Delivery.objects.filter(dead_letter__isnull=False).delete()
    DeadLetter.objects.all().delete()
    assert bring_back().passed == {"it had moved on when the file was written": 2}
    assert DeadLetter.objects.get().pk == staying.pk


def test_a_full_disk_is_told_and_nothing_leaves(letters, folder, settings, tmp_path):
    made = letters(2)
    use(settings, tmp_path / "full", f"{__name__}.Full")
    with pytest.raises(StorageFailed, match="No space left on device"):
        archive.keep(now=clock.now())
    assert [one.payload for one in DeadLetter.objects.filter(status="dead").order_by("id")] == [o.payload for o in made]
    assert files(tmp_path / "full") == []
    assert not Archive.objects.exists()
    done = {one.name: one for one in retention.cleanup(now=clock.now())}
    assert "No space left on device" in done["archive"].error
    assert (done["archive"].rows, done["archive"].left, done["sessions"].error) == (0, 2, "")
    use(settings, folder)
    assert archive.keep(now=clock.now()).letters == 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that holds 64 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("A file system can only be mounted by root.")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_real_disk_that_fills_up(letters, settings, small_disk):
    noise = os.urandom(200_000).hex()
    letters(1, payload=f'"{noise}"')
    use(settings, small_disk)
    with pytest.raises(StorageFailed, match="No space left on device"):
        archive.keep(now=clock.now())
    assert DeadLetter.objects.get(status="dead").payload == f'"{noise}"'
    assert files(small_disk) == []


def test_what_cannot_be_read_back_as_written_does_not_count(letters, settings, tmp_path):
    letters(2)
    use(settings, tmp_path / "bad", f"{__name__}.Forgetful")
    with pytest.raises(StorageFailed, match="not what was written"):
        archive.keep(now=clock.now())
    assert (DeadLetter.objects.filter(status="dead").count(), files(tmp_path / "bad")) == (2, [])


@pytest.mark.parametrize("step", ["_announce", "write", "_leave", "record"])
def test_dying_at_any_step_loses_nothing_and_leaves_one_archive(letters, folder, monkeypatch, step):
    """The process dies: nothing tidies up, and its session ends."""
    letters(3)
    place = {"write": archive_store, "record": archive.audit}.get(step, archive)
    plain = getattr(place, step)

    def die(*args, **values):
        if step in ("_announce", "write"):
            plain(*args, **values)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, step, die)
    monkeypatch.setattr(archive, "give_up", lambda **_: None)
    with pytest.raises(KeyboardInterrupt):
        archive.keep(now=clock.now())
    monkeypatch.undo()
    assert DeadLetter.objects.filter(status="dead").exclude(payload="").count() == 3
    Archive.objects.update(writer="0@long ago")
    assert archive.keep(now=clock.now()).letters == 3
    assert the_archive().letters == 3
    assert len(files(folder)) == 2
    assert archive_restore.strangers() == []


def test_files_that_belong_to_nothing_are_named(letters, folder):
    letters(1)
    archive.keep(now=clock.now())
    stranger = folder / "dead-letters" / "2020" / "01" / "20200101T000000Z-x.jsonl.gz"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    assert archive_restore.strangers() == ["dead-letters/2020/01/20200101T000000Z-x"]


def test_a_writer_that_lives_is_left_alone_and_one_whose_lease_ended_comes_too_late(letters, folder, monkeypatch):
    letters(2)
    plain = archive_store.write

    def write(**values):
        done = plain(**values)
        refused = []

        def other():
            try:
                archive.keep(now=clock.now())
            except archive.Busy as error:
                refused.append(error)
                Archive.objects.update(lease_until=clock.now() - DAY)
                monkeypatch.setattr(archive_store, "write", plain)
                assert archive.keep(now=clock.now()).letters == 2
            finally:
                connections.close_all()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(timeout=20)
        assert len(refused) == 1
        return done

    monkeypatch.setattr(archive_store, "write", write)
    with pytest.raises(archive.Busy, match="taken it for dead"):
        archive.keep(now=clock.now())
    assert (the_archive().letters, len(files(folder))) == (2, 2)
    assert bring_back().restored == 2


def test_files_hold_so_many_letters_and_so_many_bytes(letters, folder, settings, monkeypatch):
    settings.ARCHIVE_FILE_LETTERS = 4
    letters(10)
    assert archive.keep(now=clock.now()) == archive.Kept(4, is_more=True)
    done = retention.apply(rule=next(one for one in retention.rules() if one.name == "archive"), now=clock.now())
    assert (done.rows, done.left) == (6, 0)
    assert sorted(Archive.objects.values_list("letters", flat=True)) == [2, 4, 4]
    monkeypatch.setattr(archive, "FILE_BYTES", 60)
    monkeypatch.setattr(archive, "READ_BYTES", 60)
    letters(3, slug="large")
    assert archive.keep(now=clock.now()) == archive.Kept(2, is_more=True)


def test_made_up_letters_stay(letters, folder):
    letters(1, pk=ids.demo_id(moment=clock.now() - DAY, bits=1))
    assert archive.keep(now=clock.now()) == archive.Kept(0)
    assert files(folder) == []


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_a_flipped_bit_is_named_and_nothing_comes_back(letters, folder):
    letters(120)
    archive.keep(now=clock.now())
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
    archive.keep(now=clock.now())
    _, manifest = files(folder)
    flip(manifest, manifest.read_bytes().index(b'"letters"') + 12)
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    assert manifest.name in refused.value.problems[0]
    assert bring_back(skip_damaged=True).restored == 3


@pytest.mark.parametrize(("cut", "text"), [(-5, "bytes too few"), (0, "bytes too many")])
def test_a_file_of_another_length_is_damaged(letters, folder, cut, text):
    letters(2)
    archive.keep(now=clock.now())
    data, _ = files(folder)
    data.write_bytes(data.read_bytes()[:cut] if cut else data.read_bytes() + b"more")
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    assert text in refused.value.problems[-1]


def test_where_the_manifest_is_gone_the_databases_copy_serves(letters, folder):
    letters(3)
    archive.keep(now=clock.now())
    files(folder)[1].unlink()
    with pytest.raises(DamagedArchive) as refused:
        bring_back()
    assert "the database's copy" in refused.value.problems[0]
    assert bring_back(skip_damaged=True).restored == 3


def test_what_came_back_before_a_crash_is_on_record(letters, folder, monkeypatch):
    monkeypatch.setattr(archive_format, "BLOCK_LINES", 1)
    letters(3)
    archive.keep(now=clock.now())
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


def test_a_file_that_cannot_be_removed_stops_no_archiving(letters, folder, monkeypatch):
    letters(1)
    Archive.objects.create(name="half", state="abandoned", lease_until=clock.now(), created_at=clock.now())

    def refused(**_):
        raise StorageFailed("It may not be removed.")

    monkeypatch.setattr(archive_store, "remove", refused)
    assert archive.keep(now=clock.now()).letters == 1


def test_a_file_that_is_gone_is_told(letters, folder):
    letters(1)
    archive.keep(now=clock.now())
    files(folder)[0].unlink()
    with pytest.raises(StorageFailed, match=r"jsonl\.gz cannot be read"):
        bring_back()


def test_after_the_loss_of_a_database_the_files_alone_serve(letters, folder):
    made = letters(2)
    archive.keep(now=clock.now())
    name = the_archive().name
    for model in (DeadLetter, Delivery, Archive):
        model.objects.all().delete()
    assert archive_restore.strangers() == [name]
    archive_restore.adopt(name=name, now=clock.now())
    assert bring_back().restored == 2
    assert set(DeadLetter.objects.values_list("pk", flat=True)) == {one.pk for one in made}
    assert bring_back().restored == 0


@pytest.mark.parametrize("is_late", [False, True])
def test_a_letter_whose_delivery_died_again_is_passed_by_and_others_come_back(letters, folder, monkeypatch, is_late):
    first, second = letters(2)
    archive.keep(now=clock.now())
    DeadLetter.objects.all().delete()
    died = {"created_at": clock.now(), "died_at": clock.now(), "expires_at": clock.now() + DAY}
    why = error_fields(code="x", message="x")
    new = DeadLetter.objects.create(lane=first.lane, delivery=first.delivery, source="delivery", **why, **died)
    outcome = bring_back(dry_run=True)
    assert (outcome.restored, outcome.passed) == (1, {archive_restore.DIED_AGAIN: 1})
    if is_late:  # it was not there yet at the first look
        looks, real = iter([False]), archive_restore._died_again
        monkeypatch.setattr(archive_restore, "_died_again", lambda letter: next(looks, None) is None and real(letter))
    outcome = bring_back()
    assert (outcome.restored, outcome.passed) == (1, {archive_restore.DIED_AGAIN: 1})
    assert set(DeadLetter.objects.values_list("pk", flat=True)) == {new.pk, second.pk}
    assert len(the_archive().restored) == 1


def test_letters_of_a_workflow_that_is_gone_are_told(letters, folder):
    (made,) = letters(1, with_delivery=False)
    archive.keep(now=clock.now())
    lane = made.lane
    DeadLetter.objects.all().delete()
    FailureGroup.objects.all().delete()
    lane.breaker.delete(), lane.delete(), lane.workflow.delete()
    assert bring_back().passed == {"there is no workflow 'echo' any more": 1}


def test_what_was_reported_without_a_delivery_comes_back_too(workflow, folder):
    workflow()
    made = burial.report(report=burial.Report("echo", "default", '{"a": 1}', "boom"), now=clock.now() - 25 * HOUR)
    assert archive.keep(now=clock.now()).letters == 1
    DeadLetter.objects.all().delete()
    assert bring_back().restored == 1
    back = DeadLetter.objects.get()
    assert (back.pk, back.payload, back.source, back.delivery_id) == (made.pk, '{"a": 1}', "api", None)
