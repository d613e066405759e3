import json
import re
from uuid import UUID, uuid4

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.test import Client

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create
from reliability.models import ApiKey, AuditEntry, Breaker, BreakerState, DeadLetter, Delivery, Workflow
from reliability.setup import api_keys

OURS = [model for model in site._registry if model._meta.app_label == "reliability"]
NASTY = "</script><img src=x onerror=alert(1)>"


def signed_in(group: str | None = None) -> Client:
    """A client of a superuser, or of a member of one of the groups."""
    user = User.objects.create_user(f"someone-{group}", password="x", is_staff=True, is_superuser=group is None)
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def letter(workflow) -> DeadLetter:
    workflow(paused=True)
    report = create.Report(
        workflow="echo",
        tenant="default",
        payload=json.dumps({"text": NASTY}),
        error_code="E1",
        error_message=f"no such client {NASTY}",
    )
    return create.from_api(report=report, now=clock.now())


def change(model, pk, suffix="change") -> str:
    return f"/admin/reliability/{model._meta.model_name}/{pk}/{suffix}/"


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_list_opens_searches_and_shows_one(model, accept, letter):
    accept()
    ApiKey.issue(name="a")
    AuditEntry.objects.create(at=clock.now(), actor="a", action="b")
    client = signed_in()
    where = f"/admin/reliability/{model._meta.model_name}/"
    assert client.get(where).status_code == 200
    assert client.get(where, {"q": "something else"}).status_code == 200
    assert client.get(where, {"q": "01890a5d-ac96-774b-bcce-b302099a8057"}).status_code == 200
    for row in model.objects.all()[:1]:
        found = client.get(change(model, row.pk))
        assert found.status_code == 200
        assert NASTY not in found.content.decode()


def test_a_list_is_found_by_key_and_by_words(accept, letter):
    accept(idempotency_key="order-4711")
    accept(idempotency_key="order-4712")
    client = signed_in()
    found = client.get("/admin/reliability/delivery/", {"q": "order-4711"})
    assert [one.idempotency_key for one in found.context["cl"].result_list] == ["order-4711"]
    assert len(client.get("/admin/reliability/deadletter/", {"q": "no such client"}).context["cl"].result_list) == 1
    assert not client.get("/admin/reliability/deadletter/", {"q": "some other words"}).context["cl"].result_list


def test_replaying_asks_first_and_keeps_the_reason(letter):
    client, where = signed_in("operators"), "/admin/reliability/deadletter/"
    chosen = {"action": "replay_selected", "_selected_action": str(letter.pk)}
    question = client.post(where, chosen)
    assert question.status_code == 200
    assert "Replay" in question.content.decode()
    assert not Delivery.objects.exists()
    without = client.post(where, {**chosen, "confirmed": "1", "reason": " "})
    assert without.status_code == 200
    assert not Delivery.objects.exists()
    client.post(where, {**chosen, "confirmed": "1", "reason": "the vendor is back"})
    letter.refresh_from_db()
    assert letter.status == "replaying"
    assert Delivery.objects.get().source == "replay"
    entry = AuditEntry.objects.get(action="replay")
    assert (entry.actor, entry.reason) == ("user:someone-operators", "the vendor is back")


def test_the_same_answer_twice_replays_once(letter):
    client = signed_in()
    for _ in range(2):
        client.post(change(DeadLetter, letter.pk, "replay"), {"confirmed": "1", "reason": "again"})
    assert Delivery.objects.count() == 1


def test_an_edited_payload_is_sent_instead(letter):
    client, where = signed_in("leads"), change(DeadLetter, letter.pk, "edit")
    refused = client.post(where, {"confirmed": "1", "reason": "typo", "payload": "{not json"})
    assert "The payload is not valid JSON" in refused.content.decode()
    for bad in ('"text"', '{"a": "\\u0000"}', '{"a": NaN}'):
        assert client.post(where, {"confirmed": "1", "reason": "typo", "payload": bad}).status_code == 200
    assert not Delivery.objects.exists()
    client.post(where, {"confirmed": "1", "reason": "typo", "payload": '{"fixed": true}'})
    assert Delivery.objects.get().document == {"fixed": True}


@pytest.mark.parametrize(
    ("group", "verb", "may"),
    [
        ("viewers", "replay", False),
        ("viewers", "purge", False),
        ("operators", "replay", True),
        ("operators", "edit", False),
        ("operators", "purge", False),
        ("leads", "purge", True),
    ],
)
def test_each_action_has_its_own_permission(letter, group, verb, may):
    found = signed_in(group).get(change(DeadLetter, letter.pk, verb))
    assert found.status_code == (200 if may else 403)


def test_no_action_happens_by_get(letter):
    client = signed_in()
    for verb in ("replay", "purge"):
        client.get(change(DeadLetter, letter.pk, verb), {"confirmed": "1", "reason": "x"})
    letter.refresh_from_db()
    assert letter.status == "dead"


def test_cancel_and_send_now(workflow, accept):
    workflow(paused=True)
    first, second = accept(), accept()
    client = signed_in("operators")
    client.post(change(Delivery, first.pk, "cancel"), {"confirmed": "1", "reason": "a mistake"})
    client.post(change(Delivery, second.pk, "send-now"), {"confirmed": "1", "reason": "in a hurry"})
    first.refresh_from_db()
    assert first.state == "cancelled"
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"cancel", "send_now"}


def test_breakers_are_forced_open_and_reset(workflow, accept, lane_breaker):
    workflow()
    accept()
    breaker = lane_breaker()
    assert signed_in("operators").get(change(Breaker, breaker.pk, "force-open")).status_code == 403
    client = signed_in("leads")
    client.post(change(Breaker, breaker.pk, "force-open"), {"confirmed": "1", "reason": "maintenance"})
    assert lane_breaker().state == BreakerState.FORCED_OPEN
    client.post(change(Breaker, breaker.pk, "reset"), {"confirmed": "1", "reason": "done"})
    assert lane_breaker().state == BreakerState.CLOSED


def test_workflows_are_paused_and_resumed(workflow):
    made = workflow()
    client = signed_in("operators")
    client.post(change(Workflow, made.pk, "pause"), {"confirmed": "1", "reason": "release"})
    made.refresh_from_db()
    assert (made.paused, made.paused_reason) == (True, "release")
    client.post(change(Workflow, made.pk, "resume"), {"confirmed": "1", "reason": "released"})
    made.refresh_from_db()
    assert not made.paused


def test_a_workflow_is_made_and_its_secret_never_shown(db):
    client = signed_in("leads")
    values = {
        "name": "Gap fill",
        "slug": "gap-fill",
        "path": "gap-fill",
        "auth_header": "X-Auth",
        "auth_value": "s3cret",
        "reason": "a new customer",
    }
    made = client.post("/admin/reliability/workflow/add/", values, follow=True)
    assert made.status_code == 200, made.content
    workflow = Workflow.objects.get(slug="gap-fill")
    assert workflow.auth_value == "s3cret"
    page = client.get(change(Workflow, workflow.pk)).content.decode()
    assert "s3cret" not in page
    client.post(change(Workflow, workflow.pk), {**values, "auth_value": "", "max_retries": "7"})
    workflow.refresh_from_db()
    assert (workflow.max_retries, workflow.auth_value) == (7, "s3cret")
    entry = AuditEntry.objects.get(action="change_workflow")
    assert (entry.details, entry.reason) == ({"fields": ["max_retries"]}, "a new customer")


def test_a_key_is_shown_once_and_revoked(db, workflow):
    workflow()
    client = signed_in("leads")
    shown = client.post(
        "/admin/reliability/apikey/add/", {"name": "ci", "scopes": ["read"], "reason": "a test"}, follow=True
    )
    key = ApiKey.objects.get()
    plain = shown.content.decode().partition("<code>")[2].partition("</code>")[0]
    assert key.matches(plain)
    caller = Client(headers={"Authorization": f"Bearer {plain}"})
    assert caller.get("/api/v1/deliveries/").status_code == 200
    assert plain not in client.get("/admin/reliability/apikey/").content.decode()
    client.post(change(ApiKey, key.pk, "revoke"), {"confirmed": "1", "reason": "leaked"})
    assert caller.get("/api/v1/deliveries/").status_code == 401
    assert AuditEntry.objects.get(action="revoke_key").actor == Actor("user:someone-leads").name


def test_a_form_that_is_sent_twice_makes_one_key(db):
    client = signed_in("leads")
    page = client.get("/admin/reliability/apikey/add/").content.decode()
    once = re.search(r'<input type="hidden" name="once" value="([0-9a-f-]{36})"', page)[1]
    values = {"name": "ci", "scopes": ["read"], "reason": "a test", "once": once}
    first, again = (client.post("/admin/reliability/apikey/add/", values, follow=True) for _ in range(2))
    assert "<code>bsk_" in first.content.decode()
    assert "<code>bsk_" not in again.content.decode()
    assert "This key was created already" in again.content.decode()
    assert str(ApiKey.objects.get().pk) == once
    assert AuditEntry.objects.filter(action="issue_key").count() == 1
    client.post("/admin/reliability/apikey/add/", {**values, "once": str(uuid4())})
    assert ApiKey.objects.count() == 2


def test_of_two_that_send_it_at_once_one_makes_the_key(db):
    first, second = (ApiKey(pk=UUID(int=1), name="ci", prefix=name, hash=name) for name in ("a", "b"))
    api_keys._insert(first)
    with pytest.raises(api_keys.IssuedAlready):
        api_keys._insert(second)  # it looked before the other was there
    assert ApiKey.objects.get().prefix == "a"


def test_nobody_enters_unasked(client, letter):
    assert client.get("/admin/reliability/deadletter/").status_code == 302
    assert client.get("/favicon.ico").status_code == 302
