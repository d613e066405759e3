"""Stripe's side: its published events as they look, signed as Stripe signs, and its list of events."""

import hashlib
import hmac
import json
import re
import time
from pathlib import Path

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
