"""The console's screens of Stripe and of the switches."""

import pytest
from django.core.management import call_command
from django.test import Client

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.models import AuditEntry, Flag, StripeClaim, StripeEndpoint, StripeEvent, StripeRefusal, StripeSecret
from reliability.stripe import endpoints, ledger
from reliability.stripe.ledger import WebhookRequest

from ..support import stripe
from .test_console import signed_in

pytestmark = pytest.mark.django_db
BASE = "/admin/reliability/"
ACTOR = Actor("test", "because")


@pytest.fixture
def endpoint() -> StripeEndpoint:
    made = endpoints.create(endpoint=StripeEndpoint(slug="acme"), actor=ACTOR, now=clock.now())
    endpoints.add_secret(endpoint_id=made.pk, secret=stripe.SECRET, actor=ACTOR, now=clock.now())
    ledger._cache.clear()
    return made


@pytest.fixture
def event(endpoint, workflow) -> StripeEvent:
    workflow("billing", stripe_events=["*"])
    body = stripe.event()
    for _ in range(2):
        ledger.receive(arrival=WebhookRequest("acme", body, stripe.sign(body)), now=clock.now())
    return StripeEvent.objects.get()


def act(client: Client, model: str, pk: object, verb: str, **values: str):
    values = {"confirmed": "1", "reason": "rotation", **values}
    return client.post(f"{BASE}{model}/{pk}/{verb}/", values, follow=True)


def test_every_list_shows_what_there_is(event):
    StripeRefusal.objects.create(slug="acme", reason="stale", address="203.0.113.7", at=clock.now())
    StripeClaim.objects.create(tenant="acme", event_id="evt_9", lease_until=clock.now(), created_at=clock.now())
    client = signed_in("viewers")
    for model, said in {
        "stripeendpoint": "/stripe/webhook/acme/",
        "stripesecret": stripe.SECRET[-4:],
        "stripeevent": event.event_id,
        "striperefusal": "203.0.113.7",
        "stripeclaim": "evt_9",
        "flag": "dispatch",
        "slot": "slot",
    }.items():
        page = client.get(f"{BASE}{model}/").content.decode()
        assert said in page, model
        assert stripe.SECRET not in page


def test_an_event_is_found_by_its_id_and_by_what_it_is_about_and_shown_whole(event):
    client = signed_in("viewers")
    for term in (event.event_id, event.object_id, str(event.pk)):
        assert list(client.get(f"{BASE}stripeevent/", {"q": term}).context["cl"].result_list) == [event]
    assert not client.get(f"{BASE}stripeevent/", {"q": "evt_other"}).context["cl"].result_list
    page = client.get(f"{BASE}stripeevent/{event.pk}/change/").content.decode()
    assert "Café, 2 × seats — €" in page
    assert str(event.delivery_ids[0]) in page


def test_a_secret_is_added_and_an_old_one_retired_by_a_lead(endpoint):
    client = signed_in("leads")
    page = act(client, "stripeendpoint", endpoint.pk, "add-secret", secret="whsec_a-new-one")
    assert "the new secret is active" in page.content.decode()
    assert "whsec_a-new-one" not in page.content.decode()
    old = StripeSecret.objects.get(hint=stripe.SECRET[-4:])
    act(client, "stripesecret", old.pk, "retire")
    assert list(StripeSecret.objects.filter(active=True).values_list("hint", flat=True)) == ["-one"]
    entries = AuditEntry.objects.filter(reason="rotation")
    assert set(entries.values_list("action", flat=True)) == {"add_stripe_secret", "retire_stripe_secret"}
    assert "whsec" not in str(list(entries.values()))


def test_a_secret_that_is_none_is_refused(endpoint):
    page = act(signed_in("leads"), "stripeendpoint", endpoint.pk, "add-secret", secret="sk_live_1")
    assert StripeSecret.objects.count() == 1
    assert "skipped:" in page.content.decode()


def test_the_api_key_is_never_shown_and_stays_where_the_field_is_left_empty(endpoint):
    client, where = signed_in("leads"), f"{BASE}stripeendpoint/{endpoint.pk}/change/"
    values = {"slug": "acme", "tenant": "acme", "mode": "live", "account": "", "enabled": "on", "reason": "a test"}
    inline = {f"secrets-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")}
    client.post(where, {**values, **inline, "api_key": "rk_live_secret"})
    assert StripeEndpoint.objects.get().api_key == "rk_live_secret"
    assert "rk_live_secret" not in client.get(where).content.decode()
    client.post(where, {**values, **inline, "api_key": "", "mode": "test"})
    kept = StripeEndpoint.objects.get()
    assert (kept.api_key, kept.mode) == ("rk_live_secret", "test")


@pytest.mark.parametrize("group", ["viewers", "operators"])
def test_others_may_not_touch_secrets(endpoint, group):
    client, secret = signed_in(group), StripeSecret.objects.get()
    assert act(client, "stripeendpoint", endpoint.pk, "add-secret", secret="whsec_x").status_code == 403
    assert act(client, "stripesecret", secret.pk, "retire").status_code == 403
    assert StripeSecret.objects.filter(active=True).count() == 1


def test_looking_at_the_switches_writes_nothing_and_migrating_makes_those_that_are_missing(db):
    client = signed_in("operators")
    Flag.objects.all().delete()
    assert client.get(f"{BASE}flag/").status_code == 200
    assert not Flag.objects.exists()
    Flag.objects.create(name="stripe", enabled=False)
    call_command("migrate", verbosity=0)
    assert dict(Flag.objects.values_list("name", "enabled")) == {"dispatch": True, "scheduling": True, "stripe": False}
    shown = client.get(f"{BASE}flag/").context["cl"].result_list
    assert [flag.name for flag in shown] == ["dispatch", "scheduling", "stripe"]


def test_a_switch_is_turned_by_an_operator_and_not_by_a_viewer(db):
    operator = signed_in("operators")
    assert act(signed_in("viewers"), "flag", "dispatch", "switch-off").status_code == 403
    act(operator, "flag", "dispatch", "switch-off")
    kept = Flag.objects.get(name="dispatch")
    assert (kept.enabled, kept.reason) == (False, "rotation")
    act(operator, "flag", "dispatch", "switch-on")
    assert Flag.objects.get(name="dispatch").enabled
    assert act(operator, "flag", "nonsense", "switch-off").status_code == 404
