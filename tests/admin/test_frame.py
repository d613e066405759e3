"""The sidebar, its badges, the environment's label, the search."""

from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client, RequestFactory

from config import navigation
from reliability.admin.common import search
from reliability.core import clock, request_context
from reliability.dead_letters import create


def request_of(group=None, path="/admin/"):
    request = RequestFactory().get(path)
    request.user = User.objects.create_user(f"one-{group}", is_staff=True, is_superuser=group is None)
    if group:
        request.user.groups.add(Group.objects.get(name=group))
    return request


def titles(groups):
    return {group["title"]: [item["title"] for item in group["items"]] for group in groups}


def test_everything_has_its_place_for_a_superuser(db):
    shown = titles(navigation.sidebar(request_of()))
    assert list(shown) == ["Operate", "Protect", "Watch", "Stripe", "n8n", "Admin"]
    assert shown["Operate"] == ["Overview", "Dead letters", "Bulk operations", "Deliveries", "Archives"]


@pytest.mark.parametrize(
    ("group", "title", "seen"),
    [
        ("viewers", "API keys", True),
        ("viewers", "Users", False),
        ("viewers", "Failed sign-ins", False),
        ("leads", "Failed sign-ins", True),
        ("operators", "Dead letters", True),
    ],
)
def test_the_sidebar_shows_what_the_group_may_view(db, group, title, seen):
    found = [item for items in titles(navigation.sidebar(request_of(group))).values() for item in items]
    assert (title in found) is seen


def test_someone_without_permissions_finds_the_overview_alone(db):
    request = request_of("viewers")
    request.user.groups.clear()
    request.user = User.objects.get(pk=request.user.pk)
    assert titles(navigation.sidebar(request)) == {"Operate": ["Overview"]}


def test_badges_count_what_is_wrong(workflow, monkeypatch):
    workflow()
    for n in range(3):
        create.from_api(report=create.Report("echo", "default", "{}", f"error {n}", "E1"), now=clock.now())
    entry = navigation.sidebar(request_of(path="/admin/reliability/deadletter/"))[0]["items"][1]
    assert (entry["badge"], entry["badge_variant"], entry["active"]) == ("3", "danger", True)
    monkeypatch.setattr(navigation, "CAP", 2)
    assert navigation.sidebar(request_of("viewers"))[0]["items"][1]["badge"] == "2+"


def test_nothing_wrong_shows_no_badge(db):
    assert not any("badge" in item for group in navigation.sidebar(request_of()) for item in group["items"])


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("", None),
        ("Production", ["Production", "danger"]),
        ("staging", ["staging", "warning"]),
        ("Berlin", ["Berlin", "info"]),
    ],
)
def test_the_environment_is_named(settings, name, label):
    settings.ENVIRONMENT_NAME = name
    assert navigation.environment(RequestFactory().get("/")) == label


def test_the_label_is_on_every_page(settings, admin_client):
    settings.ENVIRONMENT_NAME = "Production"
    for path in ("/admin/", "/admin/reliability/delivery/"):
        page = admin_client.get(path).content.decode()
        assert "[Production]" in page
        assert "bg-red-100" in page


def test_the_search_finds_by_what_identifies(accept, workflow):
    workflow()
    delivery = accept(idempotency_key="order-4711")
    letter = create.from_api(report=create.Report("echo", "default", "{}", "error", "E1"), now=clock.now())
    request = request_of()
    assert [one.link for one in search.find(request, "order-4711")] == [
        f"/admin/reliability/delivery/{delivery.pk}/change/"
    ]
    assert [one.link for one in search.find(request, str(letter.pk))] == [
        f"/admin/reliability/deadletter/{letter.pk}/change/"
    ]
    assert [one.title for one in search.find(request, "ech")] == ["echo"]
    assert not search.find(request, "no")


def test_a_request_is_known_by_its_id_in_the_search_the_list_and_the_page(accept, workflow, admin_client):
    workflow()
    with request_context.within(request_context.from_headers(given="order-desk:17", traceparent=None)):
        asked = accept({"n": 1})
    other = accept({"n": 2})
    page = f"/admin/reliability/delivery/{asked.pk}/change/"
    assert [one.link for one in search.find(request_of(), "order-desk:17")] == [page]
    assert "order-desk:17" in admin_client.get(page).content.decode()
    listed = admin_client.get("/admin/reliability/delivery/?q=order-desk:17").content.decode()
    assert str(asked.pk) in listed
    assert str(other.pk) not in listed


def test_the_search_shows_nothing_that_may_not_be_viewed(accept, workflow):
    workflow()
    accept(idempotency_key="order-4711")
    request = request_of("viewers")
    request.user.groups.clear()
    assert not search.find(request, "order-4711")


def test_the_frame_costs_few_queries(admin_client, django_assert_max_num_queries):
    admin_client.get("/admin/")
    with django_assert_max_num_queries(12):
        admin_client.get("/admin/reliability/deadletter/")


def test_static_files_are_ours_first():
    from django.contrib.staticfiles import finders

    text = Path(finders.find("unfold/js/alpine/alpine.js")).read_text(encoding="utf-8")
    assert "the CSP build" in text[:200]
    assert "new AsyncFunction" not in text


def test_a_stranger_gets_the_sign_in_page(db):
    assert Client().get("/admin/").status_code == 302


def test_a_count_that_went_no_further_says_so(accept_many, workflow, monkeypatch):
    monkeypatch.setattr("reliability.admin.common.base.COUNT_LIMIT", 5)
    workflow(paused=True)
    accept_many(5)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    where = "/admin/reliability/delivery/"
    assert "5+ deliveries" not in " ".join(client.get(where).content.decode().split())
    accept_many(3, idempotency_key=None)
    said = " ".join(client.get(where).content.decode().split())
    assert "5+ deliveries" in said
    assert "5+ results" in " ".join(client.get(where, {"state__exact": "pending"}).content.decode().split())
