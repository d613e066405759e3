"""Who gets in, how long they stay, and what a page may run."""

import re
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from reliability.models import AuditEntry

LOGIN = "/admin/login/"


@pytest.fixture
def operator(db):
    return User.objects.create_superuser("operator", password="a-password-1")


def sign_in(client, password, username="operator", **headers):
    return client.post(LOGIN, {"username": username, "password": password}, headers=headers)


def lock_out(client, **headers):
    return [sign_in(client, "wrong", **headers).status_code for _ in range(5)]


def test_repeated_failures_lock_a_name_out_of_one_address(operator, client, settings):
    assert lock_out(client) == [200, 200, 200, 200, 429]
    refused = sign_in(client, "a-password-1")
    assert refused.status_code == 429
    assert "Too many failed sign-ins" in refused.content.decode()
    assert refused["Retry-After"] == "1800"
    other = Client(REMOTE_ADDR="192.0.2.7")
    assert sign_in(other, "a-password-1").status_code == 302
    assert not AccessAttempt.objects.filter(post_data__contains="wrong").exists()


def test_signing_in_leads_to_the_overview(operator, client):
    answer = sign_in(client, "a-password-1")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_a_success_forgets_the_failures(operator, client):
    for _ in range(4):
        sign_in(client, "wrong")
    assert sign_in(client, "a-password-1").status_code == 302
    assert not AccessAttempt.objects.exists()


def test_a_lockout_ends(operator, client):
    lock_out(client)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=31))
    assert sign_in(client, "a-password-1").status_code == 302


@pytest.mark.parametrize(("proxies", "counted"), [(0, "127.0.0.1"), (1, "198.51.100.9"), (2, "203.0.113.1")])
def test_failures_count_by_the_address_that_our_proxies_saw(operator, client, settings, proxies, counted):
    settings.TRUSTED_PROXIES = proxies
    sign_in(client, "wrong", **{"X-Forwarded-For": "10.9.9.9, 203.0.113.1, 198.51.100.9"})
    assert AccessAttempt.objects.get().ip_address == counted


def test_nonsense_for_an_address_is_counted_too(operator, client, settings):
    settings.TRUSTED_PROXIES = 1
    headers = {"X-Forwarded-For": "<script>"}
    assert lock_out(client, **headers)[-1] == 429


@pytest.mark.parametrize(("group", "status"), [("viewers", 403), ("operators", 403), ("leads", 200)])
def test_a_lead_unlocks(operator, client, group, status):
    lock_out(client)
    found = AccessAttempt.objects.get()
    lead = User.objects.create_user("someone", password="x", is_staff=True)
    lead.groups.add(Group.objects.get(name=group))
    actor = Client()
    actor.force_login(lead)
    where = f"/admin/reliability/failedsignin/{found.pk}/unlock/"
    assert actor.get(where).status_code == status
    answer = actor.post(where, {"confirmed": "1", "reason": "known to me"})
    assert answer.status_code == (302 if status == 200 else 403)
    assert AccessAttempt.objects.exists() == (status != 200)
    if status == 200:
        entry = AuditEntry.objects.get(action="unlock")
        assert (entry.actor, entry.reason, entry.details["username"]) == ("user:someone", "known to me", "operator")
        assert sign_in(client, "a-password-1").status_code == 302


@pytest.fixture
def clock_of_sessions(monkeypatch):
    from config import middleware

    class Time:
        now = 1_800_000_000

        def time(self):
            return self.now

    made = Time()
    monkeypatch.setattr(middleware, "time", made)
    return made


def is_in(client, **headers):
    return client.get("/admin/password_change/", headers=headers).status_code == 200


def test_a_session_ends_when_nobody_uses_it(operator, client, clock_of_sessions):
    client.force_login(operator)
    for _ in range(3):
        assert is_in(client)
        clock_of_sessions.now += 3500
    clock_of_sessions.now += 200
    assert not is_in(client)


def test_a_poll_is_no_use(operator, client, clock_of_sessions):
    client.force_login(operator)
    assert is_in(client)
    for _ in range(70):
        clock_of_sessions.now += 60
        is_in(client, **{"X-Backstop-Poll": "1"})
    assert not is_in(client)


def test_a_session_ends_in_any_case(operator, client, clock_of_sessions, settings):
    settings.SESSION_COOKIE_AGE = 7200
    client.force_login(operator)
    assert is_in(client)
    for _ in range(4):
        clock_of_sessions.now += 1800
        assert is_in(client)
    clock_of_sessions.now += 1801
    assert not is_in(client)


def test_a_session_can_be_left_without_an_idle_end(operator, client, clock_of_sessions, settings):
    settings.SESSION_IDLE_SECONDS = 0
    client.force_login(operator)
    assert is_in(client)
    clock_of_sessions.now += 11 * 3600
    assert is_in(client)


def test_cookies_are_out_of_reach_of_scripts(operator, client):
    client.get(LOGIN)
    answer = sign_in(client, "a-password-1")
    assert answer.cookies["sessionid"]["httponly"]
    assert answer.cookies["sessionid"]["samesite"] == "Lax"
    assert client.cookies["csrftoken"]["httponly"]


@pytest.mark.parametrize("path", [LOGIN, "/admin/", "/admin/reliability/deadletter/", "/api/docs/", "/admin/nowhere/"])
def test_pages_may_run_nothing_but_our_own_files(operator, client, path):
    client.force_login(operator)
    answer = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["default-src"] == "'self'"
    assert "unsafe-eval" not in answer["Content-Security-Policy"]
    page = answer.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", page)
    assert not re.search(r"\son[a-z]+\s*=\s*[\"']", page)
    assert "javascript:" not in page


def test_the_api_gets_neither_policy_nor_session(api):
    answer = api.get("/api/v1/deliveries/")
    assert "Content-Security-Policy" not in answer
    assert not answer.cookies
