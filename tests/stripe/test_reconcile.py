"""Stripe's own list of events, held against the ledger."""

import json
import time
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from reliability.core import clock
from reliability.models import DeadLetter, Delivery, StripeEndpoint, StripeEvent, StripeRepeat
from reliability.stripe import ledger
from reliability.stripe import reconcile as stripe_reconcile
from reliability.stripe.ledger import WebhookRequest

from ..support import stripe

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor(settings):
    made = stripe.Api()
    settings.STRIPE_API_URL, settings.STRIPE_API_KEY = made.url, "sk_test_1"
    settings.STRIPE_WEBHOOK_SECRETS = [stripe.SECRET]
    ledger._cache.clear()
    yield made
    made.stop()


def made(number: int, kind: str = "invoice.paid", *, ago: int = 60) -> bytes:
    return stripe.event(id=f"evt_{number}", type=kind, created=int(time.time()) - ago - number)


def arrive(body: bytes) -> None:
    ledger.receive(arrival=WebhookRequest("default", body, stripe.sign(body)), now=clock.now())


def run(*words: str) -> str:
    out = StringIO()
    call_command("stripe_reconcile", *words, stdout=out)
    return out.getvalue()


def test_what_is_missing_is_taken_in_once(vendor, workflow):
    workflow("billing", stripe_events=["invoice.*"])
    bodies = [made(n) for n in range(5)]
    vendor.events = [json.loads(body) for body in bodies]
    for body in bodies[:3]:
        arrive(body)
    said = run()
    assert StripeEvent.objects.filter(source="reconciled").count() == 2
    assert Delivery.objects.filter(source="stripe").count() == 5
    assert "ledger: taken in: 2" in said
    assert "ledger: kept: 3" in said
    run()
    arrive(bodies[4])  # Stripe's retry comes after all
    assert (Delivery.objects.count(), StripeRepeat.objects.count()) == (5, 1)
    assert json.loads(Delivery.objects.get(idempotency_key="evt_4").payload) == json.loads(bodies[4])
    assert vendor.keys == {"sk_test_1"}


def test_it_goes_through_every_page_and_no_further_back_than_asked(vendor, workflow):
    workflow("billing", stripe_events=["*"])
    vendor.events = [json.loads(made(n)) for n in range(250)]
    vendor.events.append(json.loads(made(999, ago=100 * 3600)))
    said = run("--hours", "72")
    assert StripeEvent.objects.count() == 250
    assert len(vendor.asked) == 3
    assert "listed by Stripe: 250" in said
    run("--hours", "200")
    assert StripeEvent.objects.count() == 251


def test_a_dry_run_takes_nothing_in(vendor, workflow):
    workflow("billing", stripe_events=["*"])
    vendor.events = [json.loads(made(1))]
    said = run("--dry-run")
    assert "missing" in said
    assert "1 gap in the last" in said
    assert not StripeEvent.objects.exists()


def test_types_that_no_workflow_asks_for_are_not_missed(vendor, workflow):
    workflow("billing", stripe_events=["invoice.*"])
    vendor.events = [json.loads(made(1)), json.loads(made(2, "charge.succeeded"))]
    assert "ledger: not routed: 1" in run()
    assert list(StripeEvent.objects.values_list("event_id", flat=True)) == ["evt_1"]
    run("--everything")
    assert StripeEvent.objects.count() == 2


def test_the_report_says_what_became_of_each(vendor, workflow):
    workflow("billing", stripe_events=["*"])
    bodies = [made(n) for n in range(5)]
    vendor.events = [json.loads(body) for body in bodies]
    for body in bodies:
        arrive(body)
    rows = {one.idempotency_key: one for one in Delivery.objects.all()}
    for number, state in enumerate(["delivered", "dead", "dead", "pending", "cancelled"]):
        Delivery.objects.filter(pk=rows[f"evt_{number}"].pk).update(state=state)
    now = clock.now()
    for number, status in ((1, "dead"), (2, "recovered")):
        one = rows[f"evt_{number}"]
        values = {"payload": "{}", "created_at": now, "died_at": now, "expires_at": now}
        DeadLetter.objects.create(lane=one.lane, delivery=one, source="delivery", status=status, **values)
    found = stripe_reconcile.run(endpoint=StripeEndpoint.objects.get(), key="sk_test_1", hours=1, now=now)
    assert {line.event.id: str(line.outcome) for line in found} == {
        "evt_0": "delivered",
        "evt_1": "dead",
        "evt_2": "delivered",
        "evt_3": "waiting",
        "evt_4": "dead",
    }
    assert "3 gaps" in run()


def test_endpoints_with_keys_of_their_own(vendor, workflow, settings):
    workflow("billing", stripe_events=["*"])
    settings.STRIPE_API_KEY = ""
    StripeEndpoint.objects.create(slug="acme", tenant="acme", api_key="sk_test_acme")
    StripeEndpoint.objects.create(slug="silent")
    vendor.events = [json.loads(made(1))]
    run()
    assert vendor.keys == {"sk_test_acme"}
    assert StripeEvent.objects.get().tenant == "acme"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--hours", "0"], 200, "--hours"),
        (["--hours", "721"], 200, "--hours"),
        (["--endpoint", "nobody"], 200, "no Stripe endpoint"),
        ([], 401, "does not accept"),
        ([], 500, "did not list"),
    ],
)
def test_bad_input_says_so(vendor, monkeypatch, words, status, said):
    monkeypatch.setattr("stripe._http_client.HTTPClient.INITIAL_DELAY", 0.01)
    monkeypatch.setattr("stripe._http_client.HTTPClient.MAX_DELAY", 0.01)
    vendor.status = status
    with pytest.raises(CommandError, match=said) as caught:
        run(*words)
    assert "sk_test_1" not in str(caught.value)


def test_without_any_key_it_says_which_variable(vendor, settings):
    settings.STRIPE_API_KEY = ""
    with pytest.raises(CommandError, match="STRIPE_API_KEY"):
        run()
