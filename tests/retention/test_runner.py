"""Retention: each rule takes what is old enough and nothing else, in batches, beside others."""

import threading
import time
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from reliability.core import clock
from reliability.lanes import opening
from reliability.models import (
    Delivery,
    Execution,
    Lane,
    Slot,
    StripeEndpoint,
    StripeEvent,
    StripeRefusal,
    StripeRepeat,
    ids,
)
from reliability.policies import pacing
from reliability.retention import runner

DAY = timedelta(days=1)


def rule(name: str) -> runner.Rule:
    return next(one for one in runner.rules() if one.name == name)


def line(capsys, name: str) -> list[str]:
    """Return the cells of a rule's line in what the command printed, after its name."""
    (found,) = [text for text in capsys.readouterr().out.splitlines() if text.split()[0] == name]
    return found.split()[1:]


@pytest.fixture
def now(db):
    return clock.now()


@pytest.fixture
def event(now):
    """Make an event received so many days ago."""
    endpoint = StripeEndpoint.objects.create(slug="shop")

    def make(name: str, age: int, **values) -> StripeEvent:
        at = now - age * DAY
        return StripeEvent.objects.create(
            **{
                "id": UUID(int=ids.at_least(at + ids.SKEW).int + len(name)),
                "endpoint": endpoint,
                "tenant": "default",
                "livemode": True,
                "event_id": name,
                "type": "invoice.paid",
                "occurred_at": at,
                "received_at": at,
                "payload": '{"amount": 1}',
                **values,
            }
        )

    return make


def test_old_payloads_of_stripe_are_scrubbed_and_their_rows_stay(event, now, settings):
    old, young = event("evt_old", 91), event("evt_young", 89)
    assert runner.apply(rule=rule("stripe_payloads"), now=now).rows == 1
    old.refresh_from_db(), young.refresh_from_db()
    assert (old.payload, old.scrubbed_at, old.event_id) == ("", now, "evt_old")
    assert (young.payload, young.scrubbed_at) == ('{"amount": 1}', None)
    assert runner.apply(rule=rule("stripe_payloads"), now=now).rows == 0
    settings.STRIPE_PAYLOAD_RETENTION_DAYS = 30
    assert runner.apply(rule=rule("stripe_payloads"), now=now).rows == 1


def test_repeats_refusals_and_expired_slots_go(event, now, workflow):
    one = event("evt_1", 200)
    for age in (91, 89):
        StripeRepeat.objects.create(event=one, received_at=now - age * DAY)
    for age in (31, 29):
        StripeRefusal.objects.create(slug="shop", reason="signature", at=now - age * DAY)
    lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")
    for minutes in (-1, 1):
        Slot.objects.create(lane=lane, taken_at=now - DAY, expires_at=now + timedelta(minutes=minutes))
    done = {one.name: one.rows for one in runner.cleanup(now=now)}
    assert (done["stripe_repeats"], done["stripe_refusals"], done["slots"]) == (1, 1, 1)
    assert [model.objects.count() for model in (StripeRepeat, StripeRefusal, Slot)] == [1, 1, 1]
    assert Lane.objects.exists()


def test_it_goes_on_until_no_batch_is_full(now, monkeypatch):
    monkeypatch.setattr(pacing, "FIRST", 10)
    StripeRefusal.objects.bulk_create(
        StripeRefusal(slug="shop", reason="signature", at=now - 40 * DAY) for _ in range(25)
    )
    first = rule("stripe_refusals").batch(now=now, size=10, after=None)
    assert first.rows == 10
    assert StripeRefusal.objects.count() == 15
    assert rule("stripe_refusals").batch(now=now, size=20, after=first.after) == runner.BatchResult(15)
    assert runner.apply(rule=rule("stripe_refusals"), now=now).rows == 0


def test_a_dry_run_only_counts(event, now, capsys):
    event("evt_old", 91)
    call_command("cleanup", "--dry-run")
    assert line(capsys, "stripe_payloads") == ["90", "days", "1", "payloads", "of", "Stripe", "events", "scrubbed"]
    assert StripeEvent.objects.filter(scrubbed_at__isnull=True).count() == 1
    call_command("cleanup")
    assert line(capsys, "stripe_payloads")[:4] == ["90", "days", "1", "0"]
    assert not StripeEvent.objects.filter(scrubbed_at__isnull=True).exists()


@pytest.mark.django_db(transaction=True)
def test_it_passes_by_what_another_holds_and_two_share_the_work():
    now = clock.now()
    StripeRefusal.objects.bulk_create(
        StripeRefusal(slug="shop", reason="signature", at=now - 40 * DAY) for _ in range(3000)
    )
    held = StripeRefusal.objects.order_by("id").first()
    totals = []

    def work():
        try:
            totals.append(runner.apply(rule=rule("stripe_refusals"), now=now).rows)
        finally:
            connection.close()

    with transaction.atomic():
        StripeRefusal.objects.select_for_update().get(pk=held.pk)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
            assert not thread.is_alive()
    assert sum(totals) == 2999
    assert list(StripeRefusal.objects.values_list("pk", flat=True)) == [held.pk]


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_waits_too_long_for_another_is_tried_again(workflow, monkeypatch):
    """Of what goes along with its rows, it cannot pass by what another holds."""
    monkeypatch.setattr(runner, "LOCK_SECONDS", 1)
    now = clock.now()
    lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")
    at = now - 100 * DAY
    values = {"lane": lane, "payload": "{}", "payload_digest": b"1", "due_at": at, "created_at": at, "finished_at": at}
    made = UUID(int=ids.at_least(at + ids.SKEW).int)
    delivery = Delivery.objects.create(pk=made, idempotency_key="1", state="delivered", **values)
    told = Execution.objects.create(lane=lane, delivery=delivery, execution_id="1", status="success", reported_at=now)
    held, tries = threading.Event(), []
    plain = runner.Rule.batch

    def batch(self, **given):
        tries.append(self.name)
        return plain(self, **given)

    def hold():
        try:
            with transaction.atomic():
                Execution.objects.select_for_update().get(pk=told.pk)
                held.set()
                time.sleep(2)
        finally:
            connection.close()

    monkeypatch.setattr(runner.Rule, "batch", batch)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(timeout=10)
    done = runner.apply(rule=rule("deliveries"), now=now)
    thread.join(timeout=20)
    assert (done.rows, done.error, Delivery.objects.count()) == (1, "", 0)
    assert len(tries) > 1
