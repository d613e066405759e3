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


@pytest.fixture
def serve(tmp_path, transactional_db):
    """Start a web server; its limits are small unless they are given."""
    running = []

    def start(**changes: str) -> Web:
        place = tmp_path / f"web-{len(running)}"
        place.mkdir()
        made = Web(place, **{**QUICK, **changes})
        running.append(made)
        return made

    yield start
    for one in running:
        if one.process.poll() is None:
            one.kill()


def refused(web: Web, reason: str) -> float:
    """Return how many requests a server refused for a reason."""
    seen = Scraped(requests.get(f"{web.url}/metrics", timeout=30).text)
    return seen("backstop_http_refused_total", reason=reason) or 0.0
