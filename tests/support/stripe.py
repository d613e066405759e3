"""Stripe's side: its published events as they look, signed as Stripe signs, and its list of events."""

import hashlib
import hmac
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

EVENTS = Path(__file__).resolve().parent / "stripe_events"
SECRET = "whsec_a-secret-of-the-tests"


def event(name: str = "invoice.paid", **changes: object) -> bytes:
    """Return a published event's text; each change puts another value in the place of a top-level member's own."""
    text = (EVENTS / f"{name}.json").read_text()
    for member, value in changes.items():
        text, found = re.subn(
            rf'^  "{member}": [^\n{{\[]*?(,?)$', rf'  "{member}": {json.dumps(value)}\1', text, flags=re.MULTILINE
        )
        assert found == 1, member
    return text.encode()


def sign(body: bytes, *, secret: str = SECRET, at: float | None = None) -> str:
    """Return the `Stripe-Signature` of the documentation's scheme ("Verify manually") for `body` sent at `at`."""
    moment = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest},v0={'0' * 64}"


class Api:
    """Stripe's list of events (`GET /v1/events`), newest first, in pages. `status` answers with an error instead."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.status = 200
        self.asked: list[dict[str, list[str]]] = []
        self.keys: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: dict[str, list[str]]) -> tuple[int, dict]:
        self.asked.append(query)
        if self.status != 200:
            kind = "invalid_request_error" if self.status < 500 else "api_error"
            return self.status, {"error": {"type": kind, "message": "Invalid API Key provided: sk_test_***"}}
        since, after = int(query.get("created[gte]", ["0"])[0]), query.get("starting_after", [""])[0]
        found = sorted((e for e in self.events if e["created"] >= since), key=lambda e: -e["created"])
        at = [e["id"] for e in found].index(after) + 1 if after else 0
        limit = int(query["limit"][0])
        page = found[at : at + limit]
        return 200, {"object": "list", "url": "/v1/events", "has_more": at + limit < len(found), "data": page}


def _handler(api: Api):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            assert parts.path == "/v1/events"
            api.keys.add(self.headers["Authorization"].removeprefix("Bearer "))
            status, document = api.answer(parse_qs(parts.query))
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args) -> None:
            pass

    return Handler
