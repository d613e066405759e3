"""The archive: nothing leaves before it is safely outside, whatever breaks."""

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

from reliability.core import clock
from reliability.dead_letters import archive, archive_restore, archive_store, replay
from reliability.dead_letters.archive_store import StorageFailed
from reliability.models import (
    Archive,
    AuditEntry,
    DeadLetter,
    Delivery,
    Total,
    TotalName,
    ids,
)
from reliability.retention import runner

from ..support.archives import ACTOR, bring_back, files, the_archive, use

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

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


def expired() -> int:
    """How many have ever left for the archive, as the metrics tell it."""
    return sum(Total.objects.filter(name=TotalName.EXPIRED).values_list("count", flat=True))


def test_expired_letters_leave_with_file_manifest_and_record(letters, folder):
    made = letters(3)
    young = letters(1, slug="young", expires_at=clock.now() + HOUR)
    assert archive.archive_expired(now=clock.now()) == archive.ArchivedBatch(3)
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
    assert archive.archive_expired(now=clock.now()) == archive.ArchivedBatch(0)


def test_what_was_written_is_for_its_owner_alone(letters, folder):
    letters(1)
    archive.archive_expired(now=clock.now())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(folder)} == {0o600}
    inside = [path for path in folder.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in inside} == {0o700}


def test_a_letter_that_moves_on_while_it_is_written_does_not_leave(letters, folder, monkeypatch):
    moving, staying, dying = letters(3)
    plain = archive_store.write

    def write(**values):
        done = plain(**values)
        replay.replay(dead_letter_id=moving.pk, actor=ACTOR, now=clock.now())
        DeadLetter.objects.filter(pk=dying.pk).update(retry_count=7)
        return done

    monkeypatch.setattr(archive_store, "write", write)
    assert archive.archive_expired(now=clock.now()).count == 1
    monkeypatch.undo()
    states = dict(DeadLetter.objects.values_list("pk", "status"))
    assert states == {moving.pk: "replaying", staying.pk: "archived", dying.pk: "dead"}
    assert len(the_archive().withdrawn) == 2
    DeadLetter.objects.all().update(status="recovered", closed_at=clock.now())
    Delivery.objects.filter(dead_letter__isnull=False).delete()
    DeadLetter.objects.all().delete()
    assert bring_back().skipped == {"it changed while the archive was written": 2}
    assert DeadLetter.objects.get().pk == staying.pk


def test_a_full_disk_is_told_and_nothing_leaves(letters, folder, settings, tmp_path):
    made = letters(2)
    use(settings, tmp_path / "full", f"{__name__}.Full")
    with pytest.raises(StorageFailed, match="No space left on device"):
        archive.archive_expired(now=clock.now())
    assert [one.payload for one in DeadLetter.objects.filter(status="dead").order_by("id")] == [o.payload for o in made]
    assert files(tmp_path / "full") == []
    assert not Archive.objects.exists()
    done = {one.name: one for one in runner.cleanup(now=clock.now())}
    assert "No space left on device" in done["archive"].error
    assert (done["archive"].rows, done["archive"].left, done["sessions"].error) == (0, 2, "")
    use(settings, folder)
    assert archive.archive_expired(now=clock.now()).count == 2


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
        archive.archive_expired(now=clock.now())
    assert DeadLetter.objects.get(status="dead").payload == f'"{noise}"'
    assert files(small_disk) == []


def test_what_cannot_be_read_back_as_written_does_not_count(letters, settings, tmp_path):
    letters(2)
    use(settings, tmp_path / "bad", f"{__name__}.Forgetful")
    with pytest.raises(StorageFailed, match="not what was written"):
        archive.archive_expired(now=clock.now())
    assert (DeadLetter.objects.filter(status="dead").count(), files(tmp_path / "bad")) == (2, [])


@pytest.mark.parametrize("step", ["_reserve", "write", "_mark_archived", "record"])
def test_dying_at_any_step_loses_nothing_and_leaves_one_archive(letters, folder, monkeypatch, step):
    """The process dies: nothing tidies up, and its session ends."""
    letters(3)
    place = {"write": archive_store, "record": archive.audit}.get(step, archive)
    plain = getattr(place, step)

    def die(*args, **values):
        if step in ("_reserve", "write"):
            plain(*args, **values)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, step, die)
    monkeypatch.setattr(archive, "abandon", lambda **_: None)
    with pytest.raises(KeyboardInterrupt):
        archive.archive_expired(now=clock.now())
    monkeypatch.undo()
    assert DeadLetter.objects.filter(status="dead").exclude(payload="").count() == 3
    Archive.objects.update(writer="0@long ago")
    assert archive.archive_expired(now=clock.now()).count == 3
    assert the_archive().letters == 3
    assert len(files(folder)) == 2
    assert archive_restore.unknown_files() == []


def test_files_that_belong_to_nothing_are_named(letters, folder):
    letters(1)
    archive.archive_expired(now=clock.now())
    stranger = folder / "dead-letters" / "2020" / "01" / "20200101T000000Z-x.jsonl.gz"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    assert archive_restore.unknown_files() == ["dead-letters/2020/01/20200101T000000Z-x"]


def test_a_writer_that_lives_is_left_alone_and_one_whose_lease_ended_comes_too_late(letters, folder, monkeypatch):
    letters(2)
    plain = archive_store.write

    def write(**values):
        done = plain(**values)
        refused = []

        def other():
            try:
                archive.archive_expired(now=clock.now())
            except archive.ArchiveBusy as error:
                refused.append(error)
                Archive.objects.update(lease_until=clock.now() - DAY)
                monkeypatch.setattr(archive_store, "write", plain)
                assert archive.archive_expired(now=clock.now()).count == 2
            finally:
                connections.close_all()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(timeout=20)
        assert len(refused) == 1
        return done

    monkeypatch.setattr(archive_store, "write", write)
    with pytest.raises(archive.ArchiveBusy, match="another clean-up took over"):
        archive.archive_expired(now=clock.now())
    assert (the_archive().letters, len(files(folder))) == (2, 2)
    assert bring_back().restored == 2


def test_files_hold_so_many_letters_and_so_many_bytes(letters, folder, settings, monkeypatch):
    settings.ARCHIVE_FILE_LETTERS = 4
    letters(10)
    assert archive.archive_expired(now=clock.now()) == archive.ArchivedBatch(4, is_more=True)
    done = runner.apply(rule=next(one for one in runner.rules() if one.name == "archive"), now=clock.now())
    assert (done.rows, done.left) == (6, 0)
    assert sorted(Archive.objects.values_list("letters", flat=True)) == [2, 4, 4]
    monkeypatch.setattr(archive, "FILE_BYTES", 60)
    monkeypatch.setattr(archive, "READ_BYTES", 60)
    letters(3, slug="large")
    assert archive.archive_expired(now=clock.now()) == archive.ArchivedBatch(2, is_more=True)


def test_made_up_letters_stay(letters, folder):
    letters(1, pk=ids.demo_id(moment=clock.now() - DAY, bits=1))
    assert archive.archive_expired(now=clock.now()) == archive.ArchivedBatch(0)
    assert files(folder) == []


def test_a_file_that_cannot_be_removed_stops_no_archiving(letters, folder, monkeypatch):
    letters(1)
    Archive.objects.create(name="half", state="abandoned", lease_until=clock.now(), created_at=clock.now())

    def refused(**_):
        raise StorageFailed("It may not be removed.")

    monkeypatch.setattr(archive_store, "remove", refused)
    assert archive.archive_expired(now=clock.now()).count == 1
