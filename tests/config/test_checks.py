"""What `check --deploy` says of an installation that others reach."""

import resource

import pytest

from reliability import checks

SAFE = {
    "EMBEDDED_DATABASE": False,
    "ALLOWED_HOSTS": ["backstop.example.com"],
    "HTTPS": True,
    "TRUSTED_PROXIES": 1,
    "CRON_SECRET": "a" * 24,
    "METRICS_TOKEN": "a token",
    "N8N_WEBHOOK_URL": "https://n8n.example.com/webhook",
    "N8N_API_URL": "",
    "WEB_MAX_CONNECTIONS": 16,
}


@pytest.fixture
def found(settings, monkeypatch):
    """Return the numbers of what is said of settings that are safe but for these."""
    monkeypatch.delenv("ADMIN_PASSWORD", raising=False)

    def look(**values) -> list[str]:
        for name, value in {**SAFE, **values}.items():
            setattr(settings, name, value)
        said = checks.deployment(None)
        assert all(one.hint and one.msg for one in said)
        return [one.id for one in said]

    return look


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"EMBEDDED_DATABASE": True}, 1),
        ({"ALLOWED_HOSTS": ["a", "*"]}, 2),
        ({"HTTPS": False}, 3),
        ({"CRON_SECRET": "a" * 23}, 4),
        ({"CRON_SECRET": ""}, 4),
        ({"METRICS_TOKEN": ""}, 5),
        ({"N8N_WEBHOOK_URL": "http://n8n.example.com/webhook"}, 7),
        ({"N8N_API_URL": "http://10.0.0.7:5678"}, 7),
        ({"TRUSTED_PROXIES": 0}, 8),
    ],
)
def test_what_is_unsafe_is_named(found, values, number):
    assert found(**values) == [f"backstop.W{number:03}"]


def test_a_limit_of_open_files_that_is_too_low(found, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert found(WEB_MAX_CONNECTIONS=4000) == []
    assert found(WEB_MAX_CONNECTIONS=4096) == ["backstop.W009"]


def test_a_password_in_the_environment(found, monkeypatch):
    monkeypatch.setenv("ADMIN_PASSWORD", "x")
    assert found() == ["backstop.W006"]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:5678/webhook", "http://localhost/webhook", "http://[::1]:1", "http://n8n:5678/webhook"],
)
def test_this_machine_and_a_container_network_may_be_plain(found, address):
    assert found(N8N_WEBHOOK_URL=address) == []


def test_without_https_no_proxy_is_expected(found):
    assert found(HTTPS=False, TRUSTED_PROXIES=0) == ["backstop.W003"]
