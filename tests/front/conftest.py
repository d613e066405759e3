"""Real web servers with small limits."""

import pytest
import requests

from ..metrics.conftest import Scraped
from ..support.web import Web

QUICK = {
    "WEB_BODY_IDLE_SECONDS": "1",
    "WEB_BODY_SECONDS": "3",
    "WEB_HEADER_SECONDS": "2",
    "WEB_SEND_SECONDS": "1",
    "CRON_SECRET": "a-cron-secret",
    "STRIPE_WEBHOOK_SECRET": "whsec_a-secret",
    "MAX_BODY_BYTES": "1048576",
    "STRIPE_MAX_BODY_BYTES": "65536",
    "WEB_BUFFERED_BYTES": "4194304",
}


@pytest.fixture(scope="module")
def _running():
    """The servers of a module's tests, by their settings: to start one takes longer than most tests."""
    running: dict[frozenset, Web] = {}
    yield running
    for one in running.values():
        if one.process.poll() is None:
            one.kill()


@pytest.fixture
def serve_other(_running, tmp_path_factory, django_db_setup):
    """Return a web server of an application that does not use the database; else as `serve`."""

    def start(**changes: str) -> Web:
        wanted = frozenset(changes.items())
        found = _running.get(wanted)
        if found is None or found.process.poll() is not None:
            found = _running[wanted] = Web(tmp_path_factory.mktemp("web"), **{**QUICK, **changes})
        found.log_from = found.log.stat().st_size
        return found

    return start


@pytest.fixture
def serve(serve_other, transactional_db):
    """Return a web server, one with the same settings that runs already if there is one; its limits are small."""

    def start(**changes: str) -> Web:
        found = serve_other(**changes)
        found.before = figures(found)
        return found

    return start


def figures(web: Web) -> Scraped:
    return Scraped(requests.get(f"{web.url}/metrics", timeout=60).text)


def logged(web: Web) -> str:
    """Return what a server has logged in this test."""
    return web.log.read_bytes()[web.log_from :].decode()


def refused(web: Web, reason: str) -> float:
    """Return how many requests a server refused for a reason in this test."""
    name = "backstop_http_refused_total"
    return (figures(web)(name, reason=reason) or 0.0) - (web.before(name, reason=reason) or 0.0)
