"""`manage.py cleanup` and `restore_archive`, as people and cron call them; real processes where they are killed."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from reliability.core import clock
from reliability.dead_letters import archive_store
from reliability.formats.counts import counted
from reliability.lanes import opening
from reliability.models import Archive, DeadLetter, StripeRefusal, error_fields

from ..support.receiver import until
from ..support.workers import ROOT, environment

DAY = timedelta(days=1)


def line(text: str, name: str) -> list[str]:
    """Return the cells of a rule's line, after its name."""
    (found,) = [one for one in text.splitlines() if one.split()[0] == name]
    return found.split()[1:]


@pytest.fixture
def folder(settings, tmp_path):
    place = tmp_path / "archive"
    options = {"location": place, "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {**settings.STORAGES, "archive": {"BACKEND": backend, "OPTIONS": options}}
    return place


@pytest.fixture
def expired(workflow):
    """Make dead letters that are past their TTL."""

    def make(count: int) -> list[DeadLetter]:
        now = clock.now()
        lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")
        values = {"source": "api", **error_fields(code="x", message="boom"), "created_at": now, "died_at": now}
        rows = [DeadLetter(lane=lane, payload=f'{{"n": {n}}}', expires_at=now - DAY, **values) for n in range(count)]
        return DeadLetter.objects.bulk_create(rows)

    return make


@pytest.fixture
def refusals():
    def make(count: int) -> None:
        at = clock.now() - 31 * DAY
        StripeRefusal.objects.bulk_create(
            [StripeRefusal(slug="shop", reason="signature", at=at) for _ in range(count)], batch_size=5000
        )

    return make


@pytest.fixture
def start():
    """Start a command as a process; what is left of it ends with the test."""
    running = []

    def begin(*arguments: str, stderr: int = subprocess.PIPE, **changes: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
        running.append(subprocess.Popen(command, env=environment(**changes), cwd=ROOT, **pipes))
        return running[-1]

    yield begin
    for one in running:
        one.kill()
        one.communicate()


@pytest.mark.django_db(transaction=True)
def test_a_table_says_what_went(refusals, expired, folder, capsys):
    refusals(3), expired(2)
    call_command("cleanup")
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["rule", "kept", "for", "removed", "left", "time", "rows"]
    assert line(said, "stripe_refusals")[:4] == ["30", "days", "3", "0"]
    assert line(said, "archive")[:4] == ["24", "hours", "2", "0"]
    assert line(said, "stripe_events")[:3] == ["forever", "0", "0"]


@pytest.mark.django_db(transaction=True)
def test_a_bar_shows_on_a_terminal_and_nowhere_else(refusals, start):
    refusals(3000)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    running = start("cleanup", "--only", "stripe_refusals", stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal is gone with the process
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert running.wait(timeout=60) == 0
    assert b"stripe_refusals: " in shown
    assert b" rows" in shown
    refusals(3000)
    _, told = start("cleanup", "--only", "stripe_refusals").communicate(timeout=60)
    assert "stripe_refusals: " not in told


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_and_single_rules(refusals, expired, folder, capsys):
    refusals(3), expired(2)
    call_command("cleanup", "--dry-run", "--only", "stripe_refusals", "--only", "archive")
    said = capsys.readouterr().out
    assert [one.split()[0] for one in said.splitlines()] == ["rule", "archive", "stripe_refusals"]
    assert (line(said, "archive")[2], line(said, "stripe_refusals")[2]) == ("2", "3")
    assert (StripeRefusal.objects.count(), Archive.objects.count()) == (3, 0)
    call_command("cleanup", "--only", "stripe_refusals")
    assert (StripeRefusal.objects.count(), Archive.objects.count()) == (0, 0)
    with pytest.raises(CommandError, match="invalid choice: 'nothing'"):
        call_command("cleanup", "--only", "nothing")


@pytest.mark.django_db(transaction=True)
def test_what_failed_is_told_and_is_the_exit_code(refusals, expired, folder, monkeypatch):
    refusals(1), expired(1)

    def fail(**_):
        raise archive_store.StorageFailed("The archive could not be written: No space left on device.")

    monkeypatch.setattr(archive_store, "write", fail)
    with pytest.raises(CommandError, match="archive: The archive could not be written: No space left") as refused:
        call_command("cleanup")
    assert refused.value.returncode == 1
    assert (StripeRefusal.objects.count(), DeadLetter.objects.filter(status="dead").count()) == (0, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_batch(refusals, start, number):
    refusals(20_000)
    running = start("cleanup", "--only", "stripe_refusals", CLEANUP_LOAD="0.05")
    until(lambda: StripeRefusal.objects.count() < 20_000, what="a first batch", within=60)
    running.send_signal(number)
    begun = time.monotonic()
    said, told = running.communicate(timeout=60)
    assert time.monotonic() - begun < 10
    assert running.returncode == 128 + number
    assert f"Stopped by {number.name} after a batch. The next run removes the rest." in told
    left = StripeRefusal.objects.count()
    assert 0 < left < 20_000
    assert line(said, "stripe_refusals")[2:4] == [f"{20_000 - left:,}", f"{left:,}"]
    call_command("cleanup", "--only", "stripe_refusals")
    assert StripeRefusal.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_killed_in_its_middle_the_next_goes_on(expired, folder, start, capsys):
    made = expired(300)
    changes = {"ARCHIVE_FILE_LETTERS": "10", "ARCHIVE_DIRECTORY": str(folder)}
    for kept in (3, 8):
        running = start("cleanup", "--only", "archive", **changes)
        until(lambda kept=kept: Archive.objects.filter(state="kept").count() >= kept, what="files", within=60)
        running.kill()
        running.wait()
    dead, archived = (DeadLetter.objects.filter(status=one).count() for one in ("dead", "archived"))
    assert dead + archived == 300
    assert archived >= 80
    last = start("cleanup", "--only", "archive", **changes)
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0
    assert line(said, "archive")[2:4] == [str(dead), "0"]
    assert set(Archive.objects.values_list("state", flat=True)) == {"kept"}
    # Every letter is in exactly one file that counts, and there is no file that does not.
    names = set(Archive.objects.values_list("name", flat=True))
    assert archive_store.names() == names
    for name in names:
        call_command("restore_archive", name)
    capsys.readouterr()
    back = DeadLetter.objects.filter(status="dead")
    assert {one.pk: one.payload for one in back} == {one.pk: one.payload for one in made}


@pytest.mark.django_db(transaction=True)
def test_two_at_once_share_the_work(expired, folder, refusals, start):
    expired(200), refusals(5000)
    changes = {"ARCHIVE_FILE_LETTERS": "20", "ARCHIVE_DIRECTORY": str(folder)}
    both = [start("cleanup", **changes) for _ in range(2)]
    for one in both:
        _, told = one.communicate(timeout=120)
        assert one.returncode == 0 or "Another clean-up is writing an archive" in told
    last = start("cleanup", **changes)
    assert last.wait(timeout=120) == 0
    assert (StripeRefusal.objects.count(), DeadLetter.objects.exclude(status="archived").count()) == (0, 0)
    assert sum(Archive.objects.values_list("letters", flat=True)) == 200
    assert archive_store.names() == set(Archive.objects.values_list("name", flat=True))


@pytest.mark.django_db(transaction=True)
def test_archives_are_listed_and_restored_by_name(expired, folder, capsys):
    made = expired(3)
    call_command("restore_archive", "--list")
    assert "No archives." in capsys.readouterr().out
    call_command("cleanup", "--only", "archive")
    capsys.readouterr()
    (folder / "dead-letters" / "stray.jsonl.gz").write_bytes(b"")
    call_command("restore_archive", "--list")
    said = capsys.readouterr().out
    one = Archive.objects.get()
    assert one.name in said
    assert "dead-letters/stray: these files belong to no archive" in said
    call_command("restore_archive", one.name, "--dry-run")
    assert "3 of 3 dead letters would be restored." in capsys.readouterr().out
    call_command("restore_archive", f"{one.name.rpartition('/')[2]}.jsonl.gz", "--letter", str(made[0].pk))
    assert "1 of 1 dead letter restored." in capsys.readouterr().out
    call_command("restore_archive", str(one.pk), "--reason", "a customer asked")
    said = capsys.readouterr().out
    assert "2 of 3 dead letters restored." in said
    assert "1 skipped: already restored." in said
    assert DeadLetter.objects.filter(status="dead").count() == 3


@pytest.mark.django_db(transaction=True)
def test_what_is_wrong_with_an_archive_is_told(expired, folder, capsys):
    expired(3)
    call_command("cleanup", "--only", "archive")
    for arguments in ([], ["x", "--list"]):
        with pytest.raises(CommandError, match="Give the NAME of an archive, or --list"):
            call_command("restore_archive", *arguments)
    with pytest.raises(CommandError, match="There is no archive 'nothing'"):
        call_command("restore_archive", "nothing")
    one = Archive.objects.get()
    with pytest.raises(CommandError, match="No dead letter of this archive matches"):
        call_command("restore_archive", one.name, "--workflow", "other")
    (path,) = folder.rglob("*.jsonl.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CommandError, match=r"line \d: its checksum does not match") as told:
        call_command("restore_archive", one.name)
    assert "--skip-damaged restores the intact" in str(told.value)
    assert not DeadLetter.objects.filter(status="dead").exists()
    with pytest.raises(CommandError, match="The archive is damaged"):
        call_command("restore_archive", one.name, "--skip-damaged")
    captured = capsys.readouterr()
    assert "checksum does not match" in captured.err
    restored = DeadLetter.objects.filter(status="dead").count()
    assert f"{restored} of {counted(restored, 'dead letter')} restored." in captured.out


@pytest.mark.django_db(transaction=True)
def test_no_batch_locks_what_others_read_and_write(refusals):
    """While a batch is under way, nothing but its own rows is locked."""
    refusals(100)
    from django.db import transaction

    from reliability.retention import runner

    rule = next(one for one in runner.rules() if one.name == "stripe_refusals")
    with transaction.atomic(), connection.cursor() as cursor:
        rule.batch(now=clock.now(), size=50, after=None)
        cursor.execute("SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'")
        modes = {row[0] for row in cursor.fetchall()}
    assert modes <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
