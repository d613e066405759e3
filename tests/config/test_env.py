"""A senseless value stops the start, and names itself."""

import os
import subprocess
import sys

import pytest

from reliability import checks

from ..support import settings_module
from ..support.workers import ROOT

BAD = [
    ("N8N_MAX_RETRIES", "-1"),
    ("N8N_MAX_RETRIES", "three"),
    ("N8N_MAX_RETRIES", "1.5"),
    ("N8N_BASE_DELAY_MS", "40000"),
    ("N8N_BASE_DELAY_MS", "-5"),
    ("N8N_JITTER_FACTOR", "1.1"),
    ("N8N_JITTER_FACTOR", "nan"),
    ("N8N_DEFAULT_CONCURRENCY", "21"),
    ("N8N_DEFAULT_CONCURRENCY", "0"),
    ("N8N_CIRCUIT_BREAKER_THRESHOLD", "0"),
    ("N8N_WEBHOOK_URL", "ftp://example.com"),
    ("N8N_WEBHOOK_URL", "http://[oops"),
    ("DEBUG", "perhaps"),
    ("SECRET_KEY", ""),
]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environment}
    return subprocess.run(
        [sys.executable, *command],
        env=values,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def said(settings):
    """Return what the check of the configuration says in an environment."""

    def read(**environment: str) -> str:
        settings.CONFIGURATION_PROBLEMS = settings_module.read(**environment).CONFIGURATION_PROBLEMS
        return "\n".join(str(one) for one in checks.environment(None))

    return read


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_check_names_the_variable(said, name, value):
    assert f"{name}:" in said(**{name: value})


def test_nothing_is_said_of_an_environment_that_makes_sense(said):
    assert said() == ""


@pytest.mark.parametrize(("name", "value"), [("N8N_MAX_RETRIES", "three"), ("SECRET_KEY", "")])
def test_the_command_stops_on_it(name, value):
    done = run("manage.py", "check", **{name: value})
    assert done.returncode != 0
    assert f"{name}:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [("manage.py", "procrastinate", "worker"), ("manage.py", "worker"), ("-c", "import config.wsgi")]
)
def test_neither_worker_nor_web_server_starts_on_it(command):
    done = run(*command, N8N_TIMEOUT_MS="soon")
    assert done.returncode != 0
    assert "N8N_TIMEOUT_MS" in done.stderr


def test_an_address_that_is_not_postgresql_is_refused():
    """By a process: Django itself could be stopped by such an address before the check."""
    done = run("manage.py", "check", DATABASE_URL="sqlite:///x.db")
    assert done.returncode != 0
    assert "DATABASE_URL:" in done.stderr


def test_the_defaults_are_those_of_the_design():
    names = [
        ("N8N_MAX_RETRIES", 3),
        ("N8N_BASE_DELAY_MS", 1000),
        ("N8N_MAX_DELAY_MS", 30000),
        ("N8N_JITTER_FACTOR", 0.1),
        ("N8N_CIRCUIT_BREAKER_THRESHOLD", 10),
        ("N8N_CIRCUIT_BREAKER_WINDOW_MS", 600000),
        ("N8N_CIRCUIT_BREAKER_RECOVERY_MS", 300000),
        ("N8N_DLQ_TTL_HOURS", 24),
        ("N8N_DLQ_CLEANUP_INTERVAL_MS", 3600000),
        ("N8N_DEFAULT_CONCURRENCY", 5),
        ("N8N_MAX_CONCURRENCY", 20),
        ("N8N_TIMEOUT_MS", 30000),
    ]
    found = settings_module.read(**{name: "" for name, _ in names})
    assert [getattr(found, name) for name, _ in names] == [value for _, value in names]


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("ALERT_EMAILS", "not an address", {"EMAIL_URL": "smtp://127.0.0.1:25"}),
        ("ALERT_EMAILS", "ada@example.com", {}),
        ("EMAIL_URL", "mail.example.com", {}),
        ("EMAIL_URL", "smtp://", {}),
        ("EMAIL_URL", "smtp://ada:hunter2@host:port", {}),
        ("ALERT_WEBHOOK_URL", "hooks.example.com/hunter2", {}),
        ("ALERT_WORKFLOW", "Not A Slug", {}),
        ("ALERT_REPEAT_MINUTES", "-1", {}),
        ("ALERT_SUCCESS_PERCENT", "101", {}),
        ("ALERT_SUCCESS_PERCENT", "nan", {}),
        ("ALERT_MEMORY_MB", "0", {}),
        ("ALERT_TIMEOUT_SECONDS", "600", {}),
        ("PUBLIC_URL", "backstop.example.com", {}),
    ],
)
def test_a_senseless_setting_of_alerts_is_named(said, name, value, others):
    found = said(**{name: value, **others})
    assert f"{name}:" in found
    assert "hunter2" not in found  # an address may hold a password


def test_the_command_shows_no_password_of_an_address():
    done = run("manage.py", "check", EMAIL_URL="smtp://ada:hunter2@host:port")
    assert done.returncode != 0
    assert "EMAIL_URL:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_mail_servers_address_becomes_djangos_settings():
    found = settings_module.read(
        EMAIL_URL="smtp+tls://ada:p%40ss@mail.example.com:587", ALERT_EMAILS="a@example.com, b@example.com"
    )
    assert (found.EMAIL_HOST, found.EMAIL_PORT, found.EMAIL_USE_TLS) == ("mail.example.com", 587, True)
    assert (found.EMAIL_HOST_USER, found.EMAIL_HOST_PASSWORD) == ("ada", "p@ss")
    assert found.ALERT_EMAILS == ["a@example.com", "b@example.com"]
