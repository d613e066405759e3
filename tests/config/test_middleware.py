"""What the API's requests pass by, and what holds for them as for pages."""

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client

from config.middleware import PagesOnly

pytestmark = pytest.mark.django_db
API = "/api/v1/deliveries/"


def test_the_api_passes_by_what_is_for_pages():
    page, answer = Client().get("/admin/login/"), Client().get(API)
    assert "Content-Security-Policy" in page.headers
    assert "Content-Security-Policy" not in answer.headers
    assert "Vary" not in answer.headers  # nothing has asked for its session's cookie
    assert not hasattr(answer.wsgi_request, "session")


def test_the_short_way_ends_at_the_views():
    handler = WSGIHandler()
    handler.load_middleware()
    step = handler._middleware_chain
    while not isinstance(getattr(step, "__wrapped__", None), PagesOnly):
        step = step.get_response
    assert step.__wrapped__.view.__wrapped__ == handler._get_response


@pytest.mark.parametrize("path", [API, "/api/v1/nowhere/", "/healthz"])
def test_what_holds_for_every_answer(path):
    headers = Client().get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert int(headers["Content-Length"]) > 0


def test_the_api_is_led_to_https_and_kept_there(settings):
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 60
    assert Client().get(API).headers["Location"] == f"https://testserver{API}"
    assert Client().get(API, secure=True).headers["Strict-Transport-Security"].startswith("max-age=60")


@pytest.mark.parametrize(
    ("path", "host", "status"), [(API, "elsewhere.example", 400), ("/api/v1/nowhere/", "testserver", 404)]
)
def test_its_errors_are_problems(path, host, status):
    answer = Client(headers={"host": host}).get(path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
