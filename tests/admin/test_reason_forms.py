"""Whatever a form of the console makes or changes has a reason, which is in the audit log."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from reliability.models import ApiKey, AuditEntry, Lane, Workflow

from .test_console import change, signed_in

PEOPLE = "/admin/auth/user/"


@pytest.fixture
def ada(db):
    return User.objects.create_user("ada", password="a-password-1")


def entries() -> list[tuple]:
    return list(AuditEntry.objects.order_by("id").values_list("action", "actor", "target_type", "reason"))


@pytest.mark.parametrize(
    ("where", "values", "model"),
    [
        ("/admin/reliability/apikey/add/", {"name": "ci"}, ApiKey),
        ("/admin/reliability/workflow/add/", {"name": "Gap", "slug": "gap", "path": "gap"}, Workflow),
        ("/admin/auth/group/add/", {"name": "night shift"}, Group),
    ],
)
@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 501])
def test_nothing_is_made_without_a_reason(db, where, values, model, reason):
    before = model.objects.count()
    answer = signed_in().post(where, values | ({"reason": reason} if reason is not None else {}))
    assert answer.status_code == 200
    assert (model.objects.count(), entries()) == (before, [])


def test_a_tenants_policy_is_not_changed_without_a_reason(workflow, accept):
    workflow()
    accept()
    client, lane = signed_in("leads"), Lane.objects.get()
    client.post(change(Lane, lane.pk), {"max_retries": "9"})
    assert (Lane.objects.get().max_retries, entries()) == (None, [])
    client.post(change(Lane, lane.pk), {"max_retries": "9", "reason": "fewer calls"})
    assert Lane.objects.get().max_retries == 9
    assert entries() == [("change_lane", "user:someone-leads", "lane", "fewer calls")]


def test_who_may_only_look_is_asked_nothing(workflow):
    page = signed_in("viewers").get(change(Workflow, workflow().pk))
    assert page.status_code == 200
    assert 'name="reason"' not in page.content.decode()


def test_who_gets_which_rights_is_on_record(ada):
    client = signed_in()
    new = {"username": "bob", "usable_password": "true", "password1": "a-long-one-7", "password2": "a-long-one-7"}
    assert client.post(f"{PEOPLE}add/", {**new, "reason": "joins us"}).status_code == 302
    lead = Group.objects.get(name="leads").pk
    values = {"username": "ada", "is_active": "on", "is_staff": "on", "groups": [lead], "reason": "leads the night"}
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    assert client.post(f"{PEOPLE}{ada.pk}/change/", values | joined).status_code == 302
    asked = {"usable_password": "true", "password1": "another-one-8", "password2": "another-one-8"}
    assert client.post(f"{PEOPLE}{ada.pk}/password/", asked).status_code == 302
    assert client.post(f"{PEOPLE}{ada.pk}/delete/", {"post": "yes"}).status_code == 302
    actor = "user:someone-None"
    assert entries() == [
        ("create_user", actor, "user", "joins us"),
        ("change_user", actor, "user", "leads the night"),
        ("change_user", actor, "user", ""),
        ("delete_user", actor, "user", ""),
    ]
    changed = AuditEntry.objects.filter(action="change_user").order_by("id").first()
    assert changed.details["name"] == "ada"
    assert "Groups" in changed.details["fields"]
    assert not AuditEntry.objects.filter(details__icontains="another-one").exists()
    for entry in AuditEntry.objects.all():
        assert client.get(change(AuditEntry, entry.pk)).status_code == 200


def test_a_user_without_the_right_changes_nobody(ada):
    client = Client()
    client.force_login(User.objects.create_user("eve", password="x", is_staff=True))
    assert client.post(f"{PEOPLE}{ada.pk}/change/", {"username": "ada", "reason": "x"}).status_code == 403
    assert entries() == []
