"""The screens of deliveries, breakers, workflows, Stripe, cron jobs and records: what they say, fast, and to whom."""

import json
from datetime import timedelta

import pytest
from django.contrib.admin import site

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import control
from reliability.lanes import breakers, flags
from reliability.models import (
    ApiKey,
    Attempt,
    AuditEntry,
    Breaker,
    BreakerState,
    Delivery,
    FailedSignIn,
    Flag,
    StripeEvent,
    Workflow,
)

from .test_console import NASTY, change, signed_in

pytestmark = pytest.mark.django_db
# What a page may ask the database, the session and the user included.
QUERIES = 15
ACTOR = Actor("user:ada", "because")
OWN = ("reliability", "scheduling")
MODELS = [model for model in site._registry if model._meta.app_label in OWN and model is not FailedSignIn]


def path_of(model, *parts: object) -> str:
    return "/".join(["/admin", model._meta.app_label, model._meta.model_name, *map(str, parts)]) + "/"


def text_of(page) -> str:
    return page.content.decode()


# --- Deliveries -------------------------------------------------------------------------------------------
def test_a_delivery_says_what_it_waits_for_and_what_can_be_pressed(workflow, accept, lane_breaker):
    made = workflow()
    delivery = accept()
    client = signed_in("operators")
    page = path_of(Delivery, delivery.pk, "change")
    assert "Ready to send" in text_of(client.get(page))
    breakers.force_open(breaker_id=lane_breaker().pk, actor=ACTOR, now=clock.now())
    shown = text_of(client.get(page))
    assert "The breaker is open (because)." in shown
    assert path_of(Breaker, lane_breaker().pk, "change") in shown
    control.pause(workflow_id=made.pk, actor=Actor("user:ada", "a release"), now=clock.now())
    assert "Workflow paused (a release)" in text_of(client.get(page))
    assert "Workflow paused (a release)" in text_of(client.get(path_of(Delivery)))
    control.cancel(delivery_id=delivery.pk, actor=ACTOR, now=clock.now())
    shown = text_of(client.get(page))
    assert "Only for pending deliveries; this one is cancelled." in shown
    assert "because" in shown  # of the audit trail


def test_a_viewer_is_shown_no_button_and_denied_by_name(workflow, accept):
    workflow(paused=True)
    delivery = accept()
    client = signed_in("viewers")
    page = text_of(client.get(path_of(Delivery, delivery.pk, "change")))
    assert ">Cancel<" not in page
    denied = client.post(path_of(Delivery, delivery.pk, "cancel"), {"confirmed": "1", "reason": "x"})
    assert denied.status_code == 403
    delivery.refresh_from_db()
    assert delivery.state == "pending"


def test_an_action_on_a_page_leads_back_to_it(workflow, accept):
    workflow(paused=True)
    delivery = accept()
    where = path_of(Delivery, delivery.pk, "cancel")
    answer = signed_in().post(f"{where}?stay=1", {"confirmed": "1", "reason": "a mistake"})
    assert answer.url.startswith(path_of(Delivery, delivery.pk, "change"))


def test_hostile_text_stays_text(workflow, accept):
    workflow(paused=True)
    delivery = accept({"text": NASTY}, idempotency_key=NASTY)
    Delivery.objects.update(last_error=NASTY)
    values = {"delivery": delivery, "number": 1, "result": "rejected", "duration_ms": 1, "started_at": clock.now()}
    Attempt.objects.create(**values, error=NASTY, code=NASTY, response_body=NASTY, response_headers={NASTY: NASTY})
    client = signed_in()
    for address in (path_of(Delivery), path_of(Delivery, delivery.pk, "change"), path_of(Attempt)):
        assert "<img src=x" not in text_of(client.get(address)), address


def test_the_whole_payload_is_answered_as_text(workflow, accept):
    workflow(paused=True)
    delivery = accept({"text": NASTY * 5000})
    client = signed_in("viewers")
    page = text_of(client.get(path_of(Delivery, delivery.pk, "change")))
    whole = path_of(Delivery, delivery.pk, "text", "payload")
    assert whole in page
    answer = client.get(whole)
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert json.loads(answer.content) == {"text": NASTY * 5000}
    assert client.get(path_of(Delivery, delivery.pk, "text", "lease_token")).status_code == 404


@pytest.mark.parametrize("pk", ["01890a5d-ac96-774b-bcce-b302099a8057", "nonsense"])
def test_what_is_not_there_is_not_found(db, pk):
    client = signed_in()
    for model in (Delivery, Breaker, StripeEvent, AuditEntry):
        assert client.get(path_of(model, pk, "change")).status_code == 404


# --- Breakers and workflows -------------------------------------------------------------------------------
def test_a_breaker_is_held_open_with_an_end(workflow, accept, lane_breaker):
    workflow()
    accept()
    breaker = lane_breaker()
    where = change(Breaker, breaker.pk, "force-open")
    client = signed_in("leads")
    assert "Duration" in text_of(client.get(where))
    before = clock.now()
    client.post(where, {"confirmed": "1", "reason": "upgrade", "lasts": "30"})
    found = lane_breaker()
    assert found.state == BreakerState.FORCED_OPEN
    assert timedelta(minutes=29) < found.forced_until - before < timedelta(minutes=31)
    page = text_of(client.get(path_of(Breaker, breaker.pk, "change")))
    assert "Forced open" in page
    assert "1 delivery is waiting" in page
    assert "user:someone-leads" in page


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ({"until": "2099-01-31 12:00"}, True),
        ({"until": "2099-01-31T12:00:00+01:00", "lasts": "60"}, True),
        ({"until": "2001-01-31 12:00"}, False),
        ({"until": "soon"}, False),
        ({"until": "2099-02-31 12:00"}, False),
        ({"lasts": "7"}, False),
        ({"lasts": "", "reason": " "}, False),
        ({"lasts": ""}, True),
    ],
)
def test_an_end_is_a_moment_to_come_or_none(workflow, values, held):
    made = workflow()
    signed_in().post(change(Workflow, made.pk, "pause"), {"confirmed": "1", "reason": "release", **values})
    made.refresh_from_db()
    assert made.paused is held
    if held and "until" in values:
        assert made.paused_until.year == 2099


# --- Stripe -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "way"),
    [
        ({"livemode": False}, "test/events/evt_1"),
        ({"livemode": True, "account": "acct_1Ab"}, "acct_1Ab/events/evt_1"),
        ({"livemode": True, "account": "../evil"}, "events/evt_1"),
        ({"livemode": True, "event_id": "evt_1/../../x?y"}, "events/evt_1%2F..%2F..%2Fx%3Fy"),
    ],
)
def test_the_way_to_stripe_is_built_of_safe_parts(values, way):
    from reliability.admin.stripe.events import dashboard

    assert dashboard(StripeEvent(**{"event_id": "evt_1", **values})) == f"https://dashboard.stripe.com/{way}"


# --- Cron jobs --------------------------------------------------------------------------------------------
# --- Records ----------------------------------------------------------------------------------------------
def test_a_key_is_shown_once_with_a_way_to_copy_it(db):
    client = signed_in("leads")
    shown = text_of(
        client.post(
            "/admin/reliability/apikey/add/", {"name": "ci", "scopes": ["read"], "reason": "a test"}, follow=True
        )
    )
    plain = shown.partition("<code>")[2].partition("</code>")[0]
    assert ApiKey.objects.get().matches(plain)
    assert f'data-copy="{plain}"' in shown
    assert plain not in text_of(client.get(path_of(ApiKey)))


def test_keys_are_told_apart_by_whether_they_open_anything(db):
    now = clock.now()
    for name, values in {
        "new": {},
        "old": {"expires_at": now - timedelta(days=1)},
        "gone": {"revoked_at": now},
    }.items():
        key, _ = ApiKey.issue(name=name)
        ApiKey.objects.filter(pk=key.pk).update(**values)
    client = signed_in()
    for choice, names in {"active": {"new"}, "over": {"old", "gone"}, "unused": {"new", "old", "gone"}}.items():
        found = client.get(path_of(ApiKey), {"is": choice}).context["cl"].result_list
        assert {key.name for key in found} == names
    assert not client.get(path_of(ApiKey), {"is": "nonsense"}).context["cl"].result_list


def test_the_audit_log_leads_to_what_was_touched(workflow, accept):
    made = workflow()
    control.pause(workflow_id=made.pk, actor=ACTOR, now=clock.now())
    flags.switch_off(name="dispatch", actor=ACTOR, now=clock.now())
    AuditEntry.objects.create(at=clock.now(), actor="a", action="b", target_type="nonsense", target_id=NASTY)
    client = signed_in("viewers")
    page = text_of(client.get(path_of(AuditEntry)))
    assert path_of(Workflow, made.pk, "change") in page
    assert path_of(Flag, "dispatch", "change") in page
    assert "<img src=x" not in page
    entry = AuditEntry.objects.get(action="pause")
    assert "user:ada" in text_of(client.get(path_of(AuditEntry, entry.pk, "change")))
    for term in ("user:ada", str(made.pk)):
        found = client.get(path_of(AuditEntry), {"q": term}).context["cl"].result_list
        assert entry in found
    assert not client.get(path_of(AuditEntry), {"q": "ada"}).context["cl"].result_list
