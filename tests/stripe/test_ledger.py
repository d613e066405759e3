"""Stripe's events: kept once, routed once, whatever comes twice, late, at once, or wrong."""

import json
import threading
import time
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection, transaction

from reliability.errors import InvalidInput, SignatureRefused, Unavailable, UnknownEndpoint
from reliability.models import (
    Delivery,
    Flag,
    StripeEndpoint,
    StripeEvent,
    StripeRefusal,
    StripeRepeat,
    StripeSecret,
)
from reliability.stripe import ledger
from reliability.stripe.ledger import Recorded, WebhookRequest

from ..support import stripe

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 2, tzinfo=UTC)
OTHER = "whsec_another-secret"


@pytest.fixture(autouse=True)
def environment(settings):
    settings.STRIPE_WEBHOOK_SECRETS = [stripe.SECRET]
    ledger._cache.clear()
    yield
    ledger._cache.clear()


def send(body: bytes | None = None, *, slug: str = "default", signature: str | None = None, **signing) -> Recorded:
    body = stripe.event() if body is None else body
    header = stripe.sign(body, **signing) if signature is None else signature
    return ledger.receive(arrival=WebhookRequest(slug, body, header, "203.0.113.7"), now=NOW)


def endpoint(slug: str = "acme", *, secrets: tuple[str, ...] = (OTHER,), **values) -> StripeEndpoint:
    made = StripeEndpoint.objects.create(slug=slug, **values)
    for secret in secrets:
        StripeSecret.objects.create(endpoint=made, secret=secret)
    return made


class TestKept:
    def test_an_event_is_kept_and_goes_untouched_to_every_workflow_that_asks_for_it(self, workflow):
        workflow("billing", stripe_events=["invoice.*"])
        workflow("all", stripe_events=["*"])
        workflow("other", stripe_events=["customer.*", "invoice.pai", "invoice_paid"])
        workflow("none")
        body = stripe.event()
        assert send(body) == Recorded("evt_1NG8Du2eZvKYlo2CUI79vXWy", duplicate=False)
        row = StripeEvent.objects.get()
        found = Delivery.objects.order_by("lane__workflow__slug")
        assert [one.lane.workflow.slug for one in found] == ["all", "billing"]
        assert {one.pk for one in found} == set(row.delivery_ids)
        for one in found:
            assert one.payload.encode() == body == row.payload.encode()
            assert (one.source, one.idempotency_key, one.lane.tenant) == ("stripe", row.event_id, "default")
            assert (one.state, one.stale) == ("pending", False)
        assert (row.type, row.livemode, row.object_id) == ("invoice.paid", False, "in_1MtHbELkdIwHu7ixl4OzzPMv")
        assert row.occurred_at == datetime.fromtimestamp(1686089970, UTC)

    def test_a_wake_up_commits_with_it(self, workflow):
        workflow("billing", stripe_events=["invoice.*"])
        send()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'dispatch' AND status = 'todo'")
            assert cursor.fetchone()[0] >= 1

    def test_it_all_fails_together(self, workflow):
        workflow("billing", stripe_events=["invoice.*"])
        send(stripe.event("setup_intent.created"))  # the endpoint is there now
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more'; END $$;"
                "CREATE TRIGGER stop BEFORE INSERT ON reliability_delivery EXECUTE FUNCTION stop()"
            )
            with pytest.raises(DatabaseError, match="no more"), transaction.atomic():
                send()
            cursor.execute("DROP FUNCTION stop() CASCADE")
        assert not StripeEvent.objects.filter(type="invoice.paid").exists()
        assert send().duplicate is False  # Stripe's retry is no duplicate of what failed
        assert Delivery.objects.count() == 1

    def test_a_repeat_is_counted_and_has_no_effect(self, workflow):
        workflow("billing", stripe_events=["invoice.*"])
        assert [send().duplicate for _ in range(3)] == [False, True, True]
        assert (StripeEvent.objects.count(), StripeRepeat.objects.count(), Delivery.objects.count()) == (1, 2, 1)

    def test_events_of_several_accounts_and_modes_are_not_each_others_repeats(self, workflow):
        workflow("billing", stripe_events=["*"])
        bodies = [
            stripe.event(),
            stripe.event(livemode=True),
            stripe.event().replace(b'"object": "event",', b'"object": "event",\n  "account": "acct_1",', 1),
        ]
        assert not any(send(body).duplicate for body in bodies)
        assert Delivery.objects.count() == 3  # the first key is the event's id, the others' are told apart
        assert Delivery.objects.values("idempotency_key").distinct().count() == 3

    def test_a_key_that_somebody_used_before_does_not_swallow_an_event(self, workflow, accept):
        workflow("billing", stripe_events=["*"])
        accept({"else": 1}, workflow="billing", idempotency_key="evt_1NG8Du2eZvKYlo2CUI79vXWy")
        send()
        assert Delivery.objects.filter(source="stripe").count() == 1
        assert send().duplicate
        assert Delivery.objects.filter(source="stripe").count() == 1

    def test_an_older_event_that_comes_late_is_marked(self, workflow):
        workflow("billing", stripe_events=["*"])
        for number, created in enumerate([2_000_000_000, 1_999_999_999, 2_000_000_000, 2_000_000_001]):
            send(stripe.event(id=f"evt_{number}", created=created))
        send(stripe.event("setup_intent.created", created=1_500_000_000))  # another object's
        found = dict(Delivery.objects.values_list("idempotency_key", "stale"))
        assert found == {
            "evt_0": False,
            "evt_1": True,
            "evt_2": False,
            "evt_3": False,
            "evt_1NG8Du2eZvKYlo2CUI79vXWz": False,
        }
        assert StripeEvent.objects.get(event_id="evt_1").stale

    def test_thin_events_are_routed_and_pings_are_not(self, workflow):
        workflow("meters", stripe_events=["*", "v2.core.event_destination.ping"])
        send(stripe.event("v1.billing.meter.error_report_triggered"))
        send(stripe.event("v2.core.event_destination.ping"))
        assert StripeEvent.objects.get(type="v2.core.event_destination.ping").ignored == "ping"
        assert Delivery.objects.get().document["type"] == "v1.billing.meter.error_report_triggered"

    def test_a_nul_in_an_event_is_kept_as_it_came(self, workflow):
        workflow("billing", stripe_events=["*"])
        body = stripe.event().replace(b'"object": "event",', b'"object": "event", "note": {"a\\u0000": "b\\u0000"},', 1)
        assert json.loads(body)["note"] == {"a\x00": "b\x00"}
        assert [send(body).duplicate for _ in range(2)] == [False, True]
        assert StripeEvent.objects.get().payload.encode() == Delivery.objects.get().payload.encode() == body

    def test_a_lane_that_skips_unchanged_payloads_gets_every_event(self, workflow):
        workflow("billing", stripe_events=["*"], skip_unchanged=True)
        send(stripe.event(id="evt_1"))
        send(stripe.event(id="evt_2"))
        assert set(Delivery.objects.values_list("state", flat=True)) == {"pending"}


class TestEndpoints:
    def test_an_event_belongs_to_its_endpoints_tenant(self, workflow):
        workflow("billing", stripe_events=["*"])
        endpoint(tenant="acme")
        send(slug="acme", secret=OTHER)
        assert Delivery.objects.get().lane.tenant == "acme"
        assert not send().duplicate  # another tenant's event of the same id is its own
        assert set(Delivery.objects.values_list("lane__tenant", flat=True)) == {"acme", "default"}

    def test_the_same_event_at_two_endpoints_of_a_tenant_has_one_effect(self, workflow):
        workflow("billing", stripe_events=["*"])
        endpoint()
        assert [send().duplicate, send(slug="acme", secret=OTHER).duplicate] == [False, True]
        assert Delivery.objects.count() == 1

    @pytest.mark.parametrize(("mode", "livemode", "goes"), [("live", True, 1), ("live", False, 0), ("test", True, 0)])
    def test_an_event_of_the_other_mode_is_kept_and_goes_nowhere(self, workflow, mode, livemode, goes):
        workflow("billing", stripe_events=["*"])
        endpoint(mode=mode)
        send(stripe.event(livemode=livemode), slug="acme", secret=OTHER)
        assert StripeEvent.objects.get().ignored == ("" if goes else "mode")
        assert Delivery.objects.count() == goes

    def test_a_secret_is_rotated_without_a_gap(self):
        made = endpoint(secrets=("whsec_old",))
        assert not send(stripe.event(id="evt_1"), slug="acme", secret="whsec_old").duplicate
        new = StripeSecret.objects.create(endpoint=made, secret="whsec_new")
        send(stripe.event(id="evt_2"), slug="acme", secret="whsec_new")
        send(stripe.event(id="evt_3"), slug="acme", secret="whsec_old")
        assert StripeEvent.objects.get(event_id="evt_2").secret == new
        StripeSecret.objects.filter(endpoint=made).exclude(pk=new.pk).update(active=False)
        with pytest.raises(SignatureRefused):
            send(stripe.event(id="evt_4"), slug="acme", secret="whsec_old")
        send(stripe.event(id="evt_5"), slug="acme", secret="whsec_new")
        assert StripeEvent.objects.count() == 4

    def test_secrets_are_encrypted_at_rest(self):
        endpoint()
        with connection.cursor() as cursor:
            cursor.execute("SELECT secret, hint FROM reliability_stripesecret")
            secret, hint = cursor.fetchone()
        assert OTHER not in secret
        assert hint == OTHER[-4:]

    def test_an_endpoint_that_is_turned_off_or_deleted_is_unknown_at_once(self):
        made = endpoint()
        send(slug="acme", secret=OTHER)
        StripeEndpoint.objects.filter(pk=made.pk).update(enabled=False)
        with pytest.raises(UnknownEndpoint):
            send(stripe.event(id="evt_2"), slug="acme", secret=OTHER)
        with pytest.raises(UnknownEndpoint):
            send(stripe.event(id="evt_3"), slug="nobody")
        assert list(StripeRefusal.objects.values_list("slug", "reason").order_by("id")) == [
            ("acme", "unknown_endpoint"),
            ("nobody", "unknown_endpoint"),
        ]

    def test_without_a_secret_stripe_is_told_to_come_again(self, settings):
        settings.STRIPE_WEBHOOK_SECRETS = []
        with pytest.raises(Unavailable):
            send()
        StripeEndpoint.objects.create(slug="acme")
        with pytest.raises(Unavailable):
            send(slug="acme")

    def test_what_is_switched_off_says_so_and_keeps_nothing(self):
        send(stripe.event(id="evt_1"))
        Flag.objects.update_or_create(name="stripe", defaults={"enabled": False})
        with pytest.raises(Unavailable):
            send(stripe.event(id="evt_2"))
        assert StripeEvent.objects.count() == 1


BODY = stripe.event()


class TestRefused:
    @pytest.mark.parametrize(
        ("reason", "body", "header"),
        [
            ("missing", BODY, lambda: ""),
            ("signature", BODY, lambda: "t=,v1="),
            ("signature", BODY, lambda: "nonsense"),
            ("signature", BODY, lambda: f"t={int(time.time())},v1=é"),
            ("signature", BODY, lambda: f"t={int(time.time())}"),
            ("signature", BODY, lambda: stripe.sign(BODY, secret="whsec_wrong")),
            ("signature", BODY[:-1] + b" ", lambda: stripe.sign(BODY)),
            ("signature", BODY.replace(b"2000", b"2001", 1), lambda: stripe.sign(BODY)),
            ("stale", BODY, lambda: stripe.sign(BODY, at=time.time() - 302)),
            ("future", BODY, lambda: stripe.sign(BODY, at=time.time() + 302)),
            ("invalid", b"\xff\xfe", lambda: stripe.sign(b"\xff\xfe")),
            ("invalid", b"no json", lambda: stripe.sign(b"no json")),
            ("invalid", b"[]", lambda: stripe.sign(b"[]")),
            ("invalid", b'{"type": "a.b"}', lambda: stripe.sign(b'{"type": "a.b"}')),
            ("invalid", b"[" * 5000, lambda: stripe.sign(b"[" * 5000)),
        ],
    )
    def test_nothing_is_stored_but_the_refusal(self, workflow, reason, body, header):
        workflow("billing", stripe_events=["*"])
        with pytest.raises(InvalidInput):
            send(body, signature=header())
        assert not StripeEvent.objects.exists()
        assert not Delivery.objects.exists()
        refusal = StripeRefusal.objects.get()
        assert (refusal.slug, refusal.reason, refusal.address) == ("default", reason, "203.0.113.7")

    def test_timestamps_just_within_the_tolerance_pass(self):
        send(stripe.event(id="evt_1"), at=time.time() - 298)
        send(stripe.event(id="evt_2"), at=time.time() + 298)
        assert StripeEvent.objects.count() == 2

    def test_a_flood_is_counted_and_fills_no_disk(self):
        for _ in range(130):
            with pytest.raises(SignatureRefused):
                send(signature="nonsense")
        assert StripeRefusal.objects.count() == 100
        assert sum(StripeRefusal.objects.values_list("count", flat=True)) == 130


@pytest.mark.django_db(transaction=True)
def test_64_repeats_at_once_have_one_effect(workflow):
    workflow("billing", stripe_events=["invoice.*"])
    workflow("other", stripe_events=["*"])
    gate, results, body = threading.Barrier(64), [], stripe.event()

    def arrive():
        gate.wait()
        try:
            results.append(send(body).duplicate)
        finally:
            connection.close()

    threads = [threading.Thread(target=arrive) for _ in range(64)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == [False] + [True] * 63
    assert (StripeEvent.objects.count(), StripeRepeat.objects.count(), Delivery.objects.count()) == (1, 63, 2)
    assert json.loads(Delivery.objects.first().payload) == json.loads(body)
