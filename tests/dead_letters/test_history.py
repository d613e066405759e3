"""Who had a hand in one dead letter: by itself, and along with others."""

import pytest

from reliability.bulk import operations, steps
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create, detail, purge, replay
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import DeadLetter, Operation

ANN, BEN = Actor("user:ann", "the vendor is back"), Actor("user:ben", "a mistake")
pytestmark = pytest.mark.django_db


@pytest.fixture
def letter(workflow) -> DeadLetter:
    workflow(paused=True)
    report = create.Report("echo", "default", '{"n": 1}', "no", "E1")
    return create.from_api(report=report, now=clock.now())


def in_bulk(kind: str, actor: Actor = ANN) -> Operation:
    made = operations.submit(kind=kind, selection=DeadLetterFilter(), actor=actor, now=clock.now())
    return work(made)


def work(made: Operation) -> Operation:
    while (due := steps.step(operation_id=made.pk, now=clock.now())) is not None and due <= clock.now():
        pass
    return made


def undo(made: Operation) -> Operation:
    return operations.undo_purge(operation_id=made.pk, actor=BEN, now=clock.now())


def trail_of(letter: DeadLetter) -> list[tuple[str, str, str]]:
    account = detail.load(letter=detail.find(dead_letter_id=letter.pk))
    return [(one.action, one.actor, str(one.operation.pk) if one.operation else "") for one in account.actions]


def test_a_bulk_replay_is_on_the_trail_of_what_it_took_along_and_names_the_hand(letter):
    made = in_bulk("replay")
    account = detail.load(letter=detail.find(dead_letter_id=letter.pk))
    action = account.actions[0]
    assert (action.action, action.actor, action.reason) == ("bulk_replay", "user:ann", "the vendor is back")
    assert (action.operation, action.at) == (made, made.created_at)
    assert [(one.by, one.operation) for one in account.replays] == [("user:ann", made)]


def test_what_an_operation_passed_over_is_not_its(letter):
    replay.replay(dead_letter_id=letter.pk, actor=BEN, now=clock.now())
    in_bulk("replay")
    in_bulk("purge")
    assert trail_of(letter) == [("replay", "user:ben", "")]


def test_a_bulk_purge_and_its_undoing_stay_on_the_trail(letter):
    purged = in_bulk("purge")
    assert trail_of(letter) == [("bulk_purge", "user:ann", str(purged.pk))]
    restore = undo(purged)
    assert len(trail_of(letter)) == 1  # it has not come to it yet
    work(restore)
    both = [("bulk_restore", "user:ben", str(restore.pk)), ("bulk_purge", "user:ann", str(purged.pk))]
    assert trail_of(letter) == both
    purge.purge(dead_letter_id=letter.pk, actor=BEN, now=clock.now())
    assert trail_of(letter) == [("purge", "user:ben", "")]


def test_an_undoing_that_met_what_was_back_already_did_not_bring_it_back(letter, workflow):
    other = create.from_api(report=create.Report("echo", "default", "{}", "no", "E1"), now=clock.now())
    purge = in_bulk("purge")
    operations.undo_purge(dead_letter_id=letter.pk, actor=BEN, now=clock.now())
    work(undo(purge))
    assert [one[0] for one in trail_of(letter)] == ["undo_purge", "bulk_purge"]
    assert [one[0] for one in trail_of(other)] == ["bulk_restore", "bulk_purge"]
