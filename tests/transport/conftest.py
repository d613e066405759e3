"""Servers with a script, and sessions of a test's own."""

import pytest

from reliability.transport import client as transport

from ..support.wire import Wire


@pytest.fixture
def wire():
    """Start a server with a script; it ends with the test."""
    started = []

    def start(script, **options) -> Wire:
        started.append(Wire(script, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def own_session(monkeypatch):
    """A session of this test's own, with what the environment says then."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    transport._local.__dict__.clear()
    yield
    transport._local.__dict__.clear()
