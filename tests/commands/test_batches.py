"""Bulk operations by command."""

import io

import pytest
from django.core.management import CommandError, call_command

from reliability.bulk import steps
from reliability.core import clock
from reliability.dead_letters import create
from reliability.models import AuditEntry, DeadLetter, Operation

pytestmark = pytest.mark.django_db


def run(*words) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def letters(workflow):
    workflow(paused=True)
    reports = [create.Report("echo", "default", f'{{"n": {n}}}', "boom", "E1") for n in range(3)]
    return [create.from_api(report=one, now=clock.now()) for one in reports]


def work(operation: Operation) -> None:
    now = clock.now()
    while (now := steps.step(operation_id=operation.pk, now=now)) is not None:
        pass


def test_a_replay_with_a_canary_and_a_limit(letters):
    said = run("replay", "--all", "--rate", "2", "--canary", "--stop-at", "25", "--reason", "fixed")
    operation = Operation.objects.get()
    assert said == f"Replaying 3 dead letters at 2 per second, batch {operation.pk}.\n"
    assert (operation.canary, operation.stop_failure_rate, operation.rate_per_second) == (True, 0.25, 2)


def test_a_dry_run_says_what_is_passed_over(letters):
    DeadLetter.objects.filter(pk=letters[0].pk).update(source="n8n")
    said = run("replay", "--all", "--dry-run")
    assert said.splitlines()[0] == "2 dead letters would be replayed."
    assert said.splitlines()[1].startswith("1 would be skipped: reported by n8n")


def test_the_hand_on_one(letters):
    run("replay", "--all")
    operation = Operation.objects.get()
    assert f"{operation.pk}" in run("batches")
    assert "running" in run("batches", "show", str(operation.pk))
    assert "paused" in run("batches", "pause", str(operation.pk), "--reason", "wait")
    assert "7 per second" in run("batches", "rate", str(operation.pk), "--rate", "7")
    assert "running" in run("batches", "resume", str(operation.pk))
    assert "cancelled" in run("batches", "cancel", str(operation.pk))
    with pytest.raises(CommandError, match="already cancelled"):
        run("batches", "pause", str(operation.pk))
    entry = AuditEntry.objects.get(action="pause_operation")
    assert (entry.actor.startswith("command:"), entry.reason) == (True, "wait")


def test_a_purge_and_its_undoing(letters):
    run("purge", "--all")
    purge = Operation.objects.get()
    work(purge)
    assert DeadLetter.objects.filter(status="purged").count() == 3
    assert "3 purged." in run("batches", "show", str(purge.pk))
    assert "restore" in run("batches", "undo", str(purge.pk), "--reason", "the wrong ones")
    work(Operation.objects.get(kind="restore"))
    assert DeadLetter.objects.filter(status="dead").count() == 3


@pytest.mark.parametrize(
    "words",
    [
        ("batches", "pause"),
        ("batches", "pause", "no-uuid"),
        ("batches", "show", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("batches", "cancel", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("batches", "rate", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("batches", "pause", "01890a5d-ac96-774b-bcce-b302099a8057", "--rate", "3"),
        ("batches", "explode", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("replay", "--all", "--stop-at", "101"),
        ("replay", "--all", "--stop-at", "nan"),
    ],
    ids=" ".join,
)
def test_what_is_not_clear_is_refused(letters, words):
    with pytest.raises(CommandError):
        run(*words)
    assert not Operation.objects.exists()
