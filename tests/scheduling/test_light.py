"""The light reachability check, as WSGI application and as Django view."""

import io
import json

import pytest
from django.test import Client

from config import wsgi

SECRET = "a-cron-secret"


@pytest.fixture
def ask(monkeypatch):
    """Ask the WSGI application; return status, headers and body. Every database access would fail the test."""

    def call(path="/cron/anything/", *, method="GET", query="", secret=SECRET, **headers):
        monkeypatch.setattr(wsgi, "_secret", secret)
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }
        answered = {}

        def start_response(status, headers):
            answered.update(status=int(status[:3]), headers=dict(headers))

        body = b"".join(wsgi.application(environ, start_response))
        return answered["status"], answered["headers"], body

    return call


@pytest.mark.parametrize(
    "shown",
    [
        {"authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer {SECRET}"},
        {"x_cron_secret": SECRET},
        {"query": f"secret={SECRET}"},
        {"query": f"a=b&secret={SECRET}"},
        {"authorization": "Bearer wrong", "x_cron_secret": SECRET},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/cron/weekly-recap/", "/api/weekly-recap", "/cron/x/"])
def test_the_secret_opens(ask, shown, path):
    status, headers, body = ask(path, **shown)
    assert status == 200
    assert json.loads(body) == {"ok": True, "message": "cron reachable"}
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {SECRET}"},
        {"authorization": "Bearer "},
        {"x_cron_secret": SECRET + "x"},
        {"query": "secret="},
        {"query": f"SECRET={SECRET}"},
        {"query": "secret=" + "a" * 100_000},
        {"authorization": "Bearer \xff\xfe"},
        {"query": "secret=%ff%00"},
    ],
    ids=lambda shown: str(shown)[:40],
)
def test_anything_else_does_not(ask, shown):
    status, _, body = ask(**shown)
    assert status == 403
    assert json.loads(body) == {"ok": False, "code": "FORBIDDEN"}


def test_without_a_secret_set_nothing_opens(ask):
    status, _, body = ask(secret="", authorization="Bearer ")
    assert status == 503
    assert json.loads(body) == {"ok": False, "code": "NO_SECRET_SET"}


def test_head_gets_the_same_headers_and_no_body(ask):
    full = ask(authorization=f"Bearer {SECRET}")
    head = ask(method="HEAD", authorization=f"Bearer {SECRET}")
    assert head[:2] == full[:2]
    assert head[2] == b""


def test_the_secret_is_compared_in_constant_time(ask, monkeypatch):
    from scheduling import light

    compared = []
    monkeypatch.setattr(light.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    for path in ("/cron/never-reached/", "/cron/reached/"):
        ask(path, authorization=f"Bearer {SECRET}")
        compared.clear()
        assert ask(path, authorization="Bearer wrong")[0] == 403
        assert (b"wrong", SECRET.encode()) in compared


def test_a_job_that_was_reached_before_answers_as_it_did_the_first_time(ask):
    first = ask("/cron/again/", authorization=f"Bearer {SECRET}")
    assert ask("/cron/again/", authorization=f"Bearer {SECRET}") == first
    assert ask("/cron/again/", method="HEAD", authorization=f"Bearer {SECRET}")[2] == b""
    for wrong in ("Bearer ", "Bearer wrong", f"Bearer {SECRET}x", f"Basic {SECRET}", "Bearer \xff"):
        assert ask("/cron/again/", authorization=wrong)[0] == 403
    assert ask("/cron/again/")[0] == 403
    assert ask("/cron/again/", secret="", authorization="Bearer ")[0] == 503


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 200), ("wrong", 403)])
def test_the_django_view_answers_the_same_without_a_query_or_a_session(settings, secret, status):
    settings.CRON_SECRET = SECRET
    response = Client().get("/cron/x/", headers={"X-Cron-Secret": secret})  # without a database mark, SQL is an error
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert not response.cookies
