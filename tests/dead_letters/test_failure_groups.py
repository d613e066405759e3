"""Kinds of failure, and the groups and counts that the database keeps of them."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Count, F, Q

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create, replay
from reliability.dead_letters.create import Report
from reliability.delivery import control
from reliability.lanes import opening
from reliability.models import DeadLetter, DeathRollup, FailureGroup, error_fields
from reliability.n8n import execution_retry_end
from reliability.policies.error_codes import reason_of
from reliability.policies.fingerprint import fingerprint_of

ACTOR = Actor("user:olga", "test")


@pytest.fixture
def lane(workflow):
    made = workflow()
    return opening.open_lane(workflow_id=made.pk, tenant="default")


@pytest.fixture
def letter(lane):
    def make(message="No client 1", *, code="http_500", at=None, **values):
        now = at or clock.now()
        fields = {"lane": lane, "source": "api", "payload": "{}", "created_at": now, "died_at": now}
        return DeadLetter(**{**fields, "expires_at": now, **error_fields(code=code, message=message), **values})

    return make


def groups():
    return set(FailureGroup.objects.values_list("code", "dead", "seen"))


def counted():
    """The groups as the dead letters themselves say."""
    rows = DeadLetter.objects.exclude(fingerprint="").values("lane__workflow", "fingerprint")
    rows = rows.annotate(dead=Count("pk", filter=Q(status="dead")))
    return {(row["lane__workflow"], row["fingerprint"]): row["dead"] for row in rows}


def kept():
    return {(one.workflow_id, one.fingerprint): one.dead for one in FailureGroup.objects.all()}


def same():
    """Groups count what is there; one that nothing is left of counts none."""
    there = counted()
    return all(dead == there.get(key, 0) for key, dead in kept().items()) and there.keys() <= kept().keys()


@pytest.mark.django_db
def test_failures_of_one_kind_are_one_group(letter):
    first = clock.now() - timedelta(hours=2)
    letter("No client 1", at=first).save()
    letter("No client 2").save()
    letter("No such table").save()
    one, two = FailureGroup.objects.order_by("-dead")
    assert (one.dead, one.seen, one.reason, one.code, one.first_at) == (2, 2, "http_5xx", "http_500", first)
    assert one.message in ("No client 1", "No client 2")
    assert one.last_at > first
    assert (two.dead, two.message) == (1, "No such table")


@pytest.mark.django_db
def test_a_group_follows_its_entries(letter):
    made = [letter(f"No client {n}") for n in range(6)]
    DeadLetter.objects.bulk_create(made)
    rows = DeadLetter.objects.order_by("id")
    assert groups() == {("http_500", 6, 6)}
    rows.filter(pk__in=[one.pk for one in made[:2]]).update(status="replaying")
    assert groups() == {("http_500", 4, 6)}
    rows.filter(status="replaying").update(status="recovered")
    assert groups() == {("http_500", 4, 6)}
    rows.filter(status="recovered").update(status="dead", died_at=clock.now())
    assert groups() == {("http_500", 6, 6)}
    rows.filter(pk=made[0].pk).update(**error_fields(code="read_timeout", message="Too slow"))
    assert groups() == {("http_500", 5, 6), ("read_timeout", 1, 1)}
    rows.filter(pk__in=[one.pk for one in made[:3]]).update(status="purged")
    assert groups() == {("http_500", 3, 6), ("read_timeout", 0, 1)}
    rows.filter(pk=made[5].pk).delete()
    assert groups() == {("http_500", 2, 6), ("read_timeout", 0, 1)}
    rows.update(retry_count=F("retry_count") + 1)
    assert groups() == {("http_500", 2, 6), ("read_timeout", 0, 1)}


@pytest.mark.django_db(transaction=True)
def test_a_table_that_is_emptied_at_once_leaves_groups_of_none(letter):
    letter().save()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE reliability_deadletter CASCADE")
    assert groups() == {("http_500", 0, 1)}


@pytest.mark.django_db
def test_an_entry_in_another_workflows_lane_is_another_group(letter, workflow):
    other = opening.open_lane(workflow_id=workflow("other").pk, tenant="acme")
    made = letter()
    made.save()
    DeadLetter.objects.update(lane=other)
    assert list(FailureGroup.objects.order_by("dead").values_list("workflow__slug", "dead")) == [
        ("echo", 0),
        ("other", 1),
    ]
    letter().save()
    assert same()


@pytest.mark.django_db
def test_a_sample_is_bounded(letter):
    letter("x " * 5000).save()
    assert len(FailureGroup.objects.get().message) <= 500


@pytest.mark.django_db
def test_each_death_is_counted_in_its_minute_and_hour_once(letter):
    at = clock.now().replace(minute=30, second=30)
    made = [letter(code="http_500", at=at), letter(code="http_501", at=at), letter(code="read_timeout", at=at)]
    DeadLetter.objects.bulk_create(made)
    DeadLetter.objects.filter(pk=made[0].pk).update(status="replaying")
    DeadLetter.objects.filter(pk=made[0].pk).update(status="dead")  # a replay that was withdrawn: no new death
    DeadLetter.objects.filter(pk=made[1].pk).update(status="replaying")
    DeadLetter.objects.filter(pk=made[1].pk).update(status="dead", died_at=at + timedelta(minutes=1))
    minute, hour = at.replace(second=0, microsecond=0), at.replace(minute=0, second=0, microsecond=0)
    assert set(DeathRollup.objects.values_list("grain", "at", "reason", "count")) == {
        ("minute", minute, "http_5xx", 2),
        ("minute", minute, "timeout", 1),
        ("minute", minute + timedelta(minutes=1), "http_5xx", 1),
        ("hour", hour, "http_5xx", 3),
        ("hour", hour, "timeout", 1),
    }


def kind(letter):
    letter.refresh_from_db()
    return letter.reason, letter.fingerprint


def expected(code, message):
    return str(reason_of(code=code)), fingerprint_of(code=code, message=message)


@pytest.mark.django_db
def test_what_an_application_reports_has_a_kind(lane):
    report = Report("echo", "default", "{}", "Out of paper", "printer")
    assert kind(create.from_api(report=report, now=clock.now())) == expected("printer", "Out of paper")


@pytest.mark.django_db
def test_an_entry_whose_error_is_told_anew_changes_its_kind(letter):
    made = letter("Workflow failed", code="execution_error", source="n8n", execution_id="7")
    made.save()
    execution_retry_end._update_failure(made, "8", "No such column", clock.now())
    assert kind(made) == expected("execution_error", "No such column")
    assert groups() == {("execution_error", 0, 1), ("execution_error", 1, 1)}


@pytest.mark.django_db(transaction=True)
def test_a_delivery_that_dies_and_dies_again_has_the_kind_of_its_last_end(workflow, receiver, drain, accept):
    workflow(max_retries=0)
    receiver.always(500, '{"message": "No client 4711"}')
    accept()
    drain()
    made = DeadLetter.objects.get()
    assert kind(made) == expected("http_500", "No client 1")
    receiver.always(422, '{"message": "No name"}')
    replay.replay(dead_letter_id=made.pk, actor=ACTOR, now=clock.now())
    assert FailureGroup.objects.get().dead == 0
    drain()
    assert kind(made) == expected("http_422", "No name")
    assert groups() == {("http_500", 0, 1), ("http_422", 1, 1)}
    assert dict(DeathRollup.objects.filter(grain="hour").values_list("reason", "count")) == {
        "http_5xx": 1,
        "http_4xx": 1,
    }


@pytest.mark.django_db(transaction=True)
def test_a_replay_that_is_withdrawn_is_dead_again_and_no_new_death(workflow, receiver, drain, accept):
    workflow(max_retries=0)
    receiver.always(500)
    accept()
    drain()
    made = DeadLetter.objects.get()
    done = replay.replay(dead_letter_id=made.pk, actor=ACTOR, now=clock.now())
    control.cancel(delivery_id=done.delivery_id, actor=ACTOR, now=clock.now())
    assert groups() == {("http_500", 1, 1)}
    assert DeathRollup.objects.get(grain="hour").count == 1


@pytest.mark.django_db(transaction=True)
def test_many_at_once_neither_lose_count_nor_wait_in_a_circle(workflow, letter):
    """Each transaction touches the same groups in an order of its own, by several statements, among them bulk ones."""
    lanes = [opening.open_lane(workflow_id=workflow(f"w-{n}").pk, tenant="default") for n in range(3)]
    kinds = [("http_500", "a"), ("http_501", "b"), ("http_422", "c"), ("read_timeout", "d")]
    failed = []

    def work(seed: int) -> None:
        try:
            for turn in range(12):
                with transaction.atomic():
                    order = kinds if (seed + turn) % 2 else kinds[::-1]
                    for place, (code, text) in enumerate(order):
                        lane = lanes[(seed + place) % 3]
                        made = [letter(text, code=code, lane=lane) for _ in range(3)]
                        DeadLetter.objects.bulk_create(made)
                        own = DeadLetter.objects.filter(pk__in=[one.pk for one in made[: 1 + turn % 3]])
                        own.update(status="purged")
                        moved = own.filter(pk=made[0].pk)
                        moved.update(status="dead", died_at=clock.now(), **error_fields(code="expired", message="x"))
        except Exception as problem:
            failed.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert same()
    assert sum(kept().values()) == DeadLetter.objects.filter(status="dead").count() > 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM backstop_outbox), (SELECT count(*) FROM backstop_outbox_due)")
        assert cursor.fetchone() == (0, 0)
