"""Which header a workflow may use for authentication, and which values can be sent in it.

A header's name is a token (RFC 9110, 5.6.2). Headers that Backstop sets, that belong to the connection, or that frame
the body are not allowed: they would change what the receiver reads.
"""

import re
from base64 import b64decode

VALUE_LIMIT = 8192
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
# Printable characters of ISO 8859-1, the character set that HTTP libraries write and n8n reads headers in.
_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]*")
_OURS = frozenset({"idempotency-key", "x-request-id", "traceparent", "tracestate", "user-agent"})
_OUR_PREFIXES = ("x-backstop-", "webhook-")
_OF_CONNECTION = frozenset({"connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade"})
_OF_CONNECTION_PREFIXES = ("proxy-",)
_FRAMING = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "expect",
        "accept-encoding",
        "range",
    }
)


def name_problem(name: str) -> str:
    """Return why a header of this name cannot be used to authenticate; empty where it can."""
    if not _TOKEN.fullmatch(name):
        return "Not a header's name: it has ASCII letters, digits and !#$%&'*+-.^_`|~ only, and no colon or space."
    lower = name.lower()
    if lower in _OURS or lower.startswith(_OUR_PREFIXES):
        return f"Backstop sets the header {name} itself. Choose another one."
    if lower in _OF_CONNECTION or lower.startswith(_OF_CONNECTION_PREFIXES):
        return f"The header {name} is about the connection, not about who calls. Choose another one."
    if lower in _FRAMING:
        return f"The header {name} says how the request is sent. Choose another one."
    return ""


def value_problem(value: str) -> str:
    """Return why a header cannot have this value; empty where it can. The reason does not repeat the value."""
    if not _VALUE.fullmatch(value):
        return "A header's value has printable characters of ISO 8859-1 only: no line break, NUL or tab."
    if value != value.strip():
        return "A header's value has no space at its ends."
    return f"A header's value has at most {VALUE_LIMIT} characters." if len(value) > VALUE_LIMIT else ""


def signing_secret_problem(secret: str) -> str:
    """Return why nothing can be signed with this Standard Webhooks secret; empty where it can."""
    try:
        sound = secret.startswith("whsec_") and b64decode(secret[6:], validate=True)
    except ValueError:
        sound = b""
    return "" if sound else "A signing secret is 'whsec_' followed by base64."
