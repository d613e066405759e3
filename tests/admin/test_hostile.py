"""What people, browsers and strangers send to the console that makes no sense: nothing breaks, and nothing is done."""

import re

import pytest
from axes.models import AccessAttempt
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from reliability.admin.common.confirm import LIMIT
from reliability.bulk import operations
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import AuditEntry, DeadLetter, Delivery, Workflow
from reliability.models.ids import uuid7

from .test_console import change, signed_in

# Beyond what a moment in UTC can be: it would be kept, and no page could read it again.
BEYOND = ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00")


@pytest.mark.parametrize("text", [*BEYOND, "2999-01-01T00:00+99:00", "2026-13-01", "31.12.2999"])
def test_a_pause_without_an_end_that_can_be_read_is_refused(workflow, text):
    workflow()
    pause = change(Workflow, Workflow.objects.get().pk, "pause")
    answer = signed_in().post(pause, {"confirmed": "1", "reason": "a test", "until": text})
    assert "Enter a date and time" in answer.content.decode()
    assert Workflow.objects.values_list("paused", "paused_until").get() == (False, None)


def test_a_pause_may_end_as_late_as_a_moment_can(workflow):
    workflow()
    client = signed_in()
    pause = change(Workflow, Workflow.objects.get().pk, "pause")
    assert client.post(pause, {"confirmed": "1", "reason": "a test", "until": "9999-12-31 23:59"}).status_code == 302
    assert [client.get(path).status_code for path in ("/admin/", "/admin/reliability/workflow/")] == [200, 200]


LISTS = [model for model in site._registry if model._meta.app_label in ("reliability", "scheduling")]


def where(model) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.fixture
def rows(workflow, accept):
    """A delivery that waits, and a dead letter."""
    workflow(paused=True)
    workflow(slug="other")  # a filter with nothing to choose from is none
    accept(idempotency_key="a-key")
    report = create.Report(workflow="echo", tenant="default", payload="{}", error_code="E1", error_message="no")
    return create.from_api(report=report, now=clock.now())


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model.__name__)
def test_a_filter_that_makes_no_sense_is_told_so_and_matches_nothing(rows, model):
    client = signed_in()
    wrong = [{"nonsense": "1"}, {"q": "a\x00b"}]
    filters = [one for one in site._registry[model].list_filter if isinstance(one, str)]
    wrong += [{f"{name}__exact": "a\x00b"} for name in filters]
    for params in wrong:
        answer = client.get(where(model), params, follow=True)
        assert answer.status_code == 200, params
        assert not answer.context["cl"].result_list, params
        told = ("so the list is empty", "There is no filter", "holds an invalid character")
        assert any(text in answer.content.decode() for text in told), params


@pytest.mark.parametrize(
    "params", [{"lane__workflow__id__exact": "no-id"}, {"state__exact": "a\x00"}, {"scope__in": "\x00"}]
)
def test_a_filter_by_what_no_row_can_hold_does_not_show_all(rows, params):
    answer = signed_in().get("/admin/reliability/breaker/", params, follow=True)
    assert (answer.status_code, list(answer.context["cl"].result_list)) == (200, [])


def test_what_completes_a_field_finds_nothing_for_what_cannot_be_stored(rows):
    asked = {"app_label": "scheduling", "model_name": "cronjob", "field_name": "workflows", "term": "a\x00"}
    answer = signed_in().get("/admin/autocomplete/", asked)
    assert (answer.status_code, answer.json()["results"]) == (200, [])


@pytest.mark.parametrize(
    "params",
    [
        "workflow=%20",
        "fingerprint=%09",
        "after=%20%20",
        "q=%20",
        "status__exact=%20",
        "next=junk",
        "prev=0",
        "p=5",
        "e=1",
    ],
)
def test_blank_filters_and_places_that_are_none_match_no_dead_letter(rows, params):
    client = signed_in()
    for path in ("deadletter/", "operation/replay/", "operation/purge/"):
        answer = client.get(f"/admin/reliability/{path}?{params}")
        assert 'role="alert"' in answer.content.decode()
    assert not client.get(f"/admin/reliability/deadletter/?{params}").context["cl"].result_list


ACTING = [model for model in LISTS if any(one.many for one in getattr(site._registry[model], "verbs", ()))]
IDS = ("junk", "a\x00b", "9" * 23, "{", "01890a5d-ac96-774b-bcce-b302099a805")


@pytest.mark.parametrize("model", ACTING, ids=lambda model: model.__name__)
def test_an_action_on_what_is_no_row_does_nothing(rows, model):
    client, screen = signed_in(), site._registry[model]
    client.get(where(model))  # which makes the switches
    for chosen in IDS:
        asked = {"action": screen.actions[0], "_selected_action": chosen, "confirmed": "1", "reason": "a test"}
        answer = client.post(where(model), asked, follow=True)
        assert answer.status_code == 200, chosen
        assert "Nothing was changed" in answer.content.decode(), chosen
    assert not AuditEntry.objects.exists()


def test_all_rows_of_the_queue_are_not_an_action_of_its_list(rows):
    asked = {
        "action": "purge_selected",
        "_selected_action": str(rows.pk),
        "select_across": "1",
        "confirmed": "1",
        "reason": "x",
    }
    answer = signed_in().post("/admin/reliability/deadletter/?workflow=other", asked, follow=True)
    assert "Nothing was changed" in answer.content.decode()
    assert DeadLetter.objects.get().status == "dead"


def test_the_most_rows_that_can_be_asked_about_can_be_answered_for(workflow, accept_many):
    workflow(paused=True)
    client = signed_in()
    accept_many(LIMIT)
    chosen = {"action": "cancel_selected", "_selected_action": str(Delivery.objects.first().pk), "select_across": "1"}
    page = client.post("/admin/reliability/delivery/", chosen).content.decode()
    fields = re.findall(r'name="(_selected_action|action)" value="([^"]+)"', page)
    answered = {"confirmed": "1", "reason": "a test", "csrfmiddlewaretoken": "a token", "action": "cancel_selected"}
    answered["_selected_action"] = [value for name, value in fields if name == "_selected_action"]
    assert len(answered["_selected_action"]) == LIMIT
    assert client.post("/admin/reliability/delivery/", answered).status_code == 302
    assert Delivery.objects.filter(state="cancelled").count() == LIMIT


def test_the_hand_on_an_operation_that_is_not_there_is_told_so(db):
    client, control = signed_in(), f"/admin/reliability/operation/{uuid7()}/control/"
    assert [client.post(control, {"verb": "pause", **more}).status_code for more in ({}, {"reason": "x"})] == [404, 404]


def test_who_signs_in_amid_an_action_comes_back_to_its_page_and_nothing_is_done(rows, client):
    operation = operations.submit(
        kind="replay", selection=DeadLetterFilter(workflow="echo"), actor=Actor("user:a"), now=clock.now()
    )
    User.objects.create_superuser("ada", password="a-password-1")
    for path, back in [
        (f"operation/{operation.pk}/control/", f"operation/{operation.pk}/"),
        ("deadletter/export/?workflow=echo", "deadletter/?workflow=echo"),
    ]:
        client.logout()
        refused = client.post(f"/admin/reliability/{path}", {"verb": "cancel", "kind": "csv", "reason": "a test"})
        signed = {"username": "ada", "password": "a-password-1", "next": f"/admin/reliability/{path}"}
        answer = client.post(refused["Location"], signed, follow=True)
        assert answer.redirect_chain[-1][0] == f"/admin/reliability/{back}"
        assert "Submit it again" in answer.content.decode()
    operation.refresh_from_db()
    assert operation.state == "running"
    assert not AuditEntry.objects.filter(actor="user:ada").exists()


def test_a_text_is_named_by_its_row_and_not_by_the_address(rows):
    pk = Delivery.objects.first().pk
    client = signed_in()
    for address in (f"urn:uuid:{pk}", f"{{{pk}}}", f"%0d{pk}"):
        answer = client.get(f"/admin/reliability/delivery/{address}/text/payload/")
        assert answer["Content-Disposition"] == f'inline; filename="{pk}-payload.txt"'


def test_a_page_that_is_too_old_is_told_so(rows):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("ada", password="a-password-1"))
    answer = strict.post(change(DeadLetter, rows.pk, "purge"), {"confirmed": "1", "reason": "x"})
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.content.decode()
    assert DeadLetter.objects.get().status == "dead"


def test_what_is_not_there_or_is_broken_has_a_page_with_a_way_back(rows, settings):
    client = signed_in()
    gone = client.get(change(DeadLetter, uuid7()))
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 1
    broken = client.post("/admin/reliability/delivery/", {"a": "1", "b": "2"})
    assert (gone.status_code, broken.status_code) == (404, 400)
    assert all('href="/admin/"' in answer.content.decode() for answer in (gone, broken))


@pytest.mark.parametrize("name", ["x" * 10_000, "\u202e" * 256])
def test_a_name_longer_than_any_is_counted_like_others(db, client, name):
    answers = [client.post("/admin/login/", {"username": name, "password": "wrong"}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]


@pytest.mark.parametrize(
    ("seen", "counted"),
    [("2001:db8:1:2:aaaa::1", "2001:db8:1:2::"), ("::ffff:192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::")],
)
def test_who_has_many_addresses_of_one_network_is_one(db, seen, counted):
    Client(REMOTE_ADDR=seen).post("/admin/login/", {"username": "ada", "password": "wrong"})
    assert AccessAttempt.objects.get().ip_address == counted


@pytest.mark.parametrize("model", ACTING, ids=lambda model: model.__name__)
def test_an_action_of_a_list_names_the_permission_that_was_taken_away(rows, model):
    """The list would only say that no action was chosen."""
    client, screen = signed_in("viewers"), site._registry[model]
    verb = next(one for one in screen.verbs if one.many)
    asked = {"action": screen.actions[0], "_selected_action": str(uuid7()), "confirmed": "1", "reason": "a test"}
    answer = client.post(where(model), asked)
    assert answer.status_code == 403
    assert f".{verb.needs}_{model._meta.model_name}" in answer.content.decode()


def test_what_leads_from_an_object_to_its_page_elsewhere_is_not_there(rows):
    assert signed_in().get("/admin/r/1/1/").status_code == 404


@pytest.mark.parametrize("path", ["../rest/login", "a/../../rest", "..", "a/.", "%2e%2e/rest", "a%2F..%2Frest"])
def test_a_path_that_leads_out_of_the_webhooks_is_refused(db, path):
    answer = signed_in("leads").post(
        "/admin/reliability/workflow/add/", {"name": "a", "slug": "a", "path": path, "reason": "a test"}
    )
    assert "A path has no part" in answer.content.decode()
    assert not Workflow.objects.exists()
    with pytest.raises(ValidationError):
        Workflow(slug="a", name="a", path=path).full_clean()
