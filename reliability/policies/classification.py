"""What an answer of n8n, or the lack of one, means.

The rules are the design's table "What a response of n8n means"; the texts are those of n8n 2.x.
"""

import enum
import http
import json
from collections.abc import Mapping
from dataclasses import dataclass

from .storable import storable

MESSAGE_LIMIT = 300


class Outcome(enum.StrEnum):
    """The kinds of end that an attempt can have."""

    DELIVERED = "delivered"
    INSTANCE_DOWN = "instance_down"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    MISCONFIGURED = "misconfigured"
    MISCONFIGURED_LOCALLY = "misconfigured_locally"
    REJECTED = "rejected"


class Failure(enum.StrEnum):
    """The ways in which no reply comes."""

    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_RESET = "connection_reset"
    DNS_FAILURE = "dns_failure"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_HANDSHAKE_TIMEOUT = "tls_handshake_timeout"
    TLS_ERROR = "tls_error"
    SEND_INTERRUPTED = "send_interrupted"
    CONNECTION_LOST_AFTER_SEND = "connection_lost_after_send"
    READ_TIMEOUT = "read_timeout"
    CONNECTION_ERROR = "connection_error"
    LOCAL_FAULT = "local_fault"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response: status, headers by lower-case name, and the start of the body as text."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Classified:
    """The verdict on an attempt. `reached` is false where n8n certainly did not run anything."""

    outcome: Outcome
    code: str = ""
    message: str = ""
    reached: bool = True


_FAILURES = {
    Failure.CONNECTION_REFUSED: (Outcome.INSTANCE_DOWN, False, "n8n refused the connection."),
    Failure.CONNECTION_RESET: (Outcome.INSTANCE_DOWN, False, "The connection broke before the request was sent."),
    Failure.DNS_FAILURE: (Outcome.INSTANCE_DOWN, False, "n8n's host name does not resolve."),
    Failure.CONNECT_TIMEOUT: (Outcome.TRANSIENT, False, "No connection within the time allowed."),
    Failure.TLS_HANDSHAKE_TIMEOUT: (Outcome.INSTANCE_DOWN, False, "The TLS handshake did not end in time."),
    Failure.TLS_ERROR: (Outcome.INSTANCE_DOWN, False, "No secure connection could be made."),
    # n8n runs nothing of an incomplete request, but a request that is too large for a gateway also ends like this:
    # so it spends retries.
    Failure.SEND_INTERRUPTED: (Outcome.TRANSIENT, False, "The request could not be sent completely."),
    Failure.CONNECTION_LOST_AFTER_SEND: (
        Outcome.UNKNOWN,
        True,
        "The connection broke after the request was sent: n8n may be running it.",
    ),
    Failure.READ_TIMEOUT: (Outcome.UNKNOWN, True, "No answer in time: n8n may be running it."),
    Failure.CONNECTION_ERROR: (Outcome.INSTANCE_DOWN, True, "The request could not be completed."),
    Failure.LOCAL_FAULT: (Outcome.MISCONFIGURED_LOCALLY, False, "Backstop could not send the request."),
}
_TRANSIENT = frozenset({408, 425, 429})
_MISCONFIGURED = frozenset({401, 403})


def classify_failure(failure: Failure, detail: str = "", code: str = "") -> Classified:
    """Say what it means that no reply came.

    `detail` is the operating system's or library's word for it; of a local fault it is the whole message, which names
    the setting. `code` is more exact than the failure's own, where there is one.
    """
    outcome, reached, message = _FAILURES[failure]
    if detail:
        message = detail if failure is Failure.LOCAL_FAULT else f"{message} ({detail})"
    return Classified(outcome, code or str(failure), message, reached)


def classify_reply(reply: Reply) -> Classified:
    """Say what a reply means."""
    special = _not_there(reply) or _not_registered(reply)
    if special is not None:
        return special
    if 200 <= reply.status < 300:
        return Classified(Outcome.DELIVERED)
    if reply.status in _MISCONFIGURED:
        return _as(Outcome.MISCONFIGURED, reply)
    if reply.status in _TRANSIENT or reply.status >= 500:
        return _as(Outcome.TRANSIENT, reply)
    return _as(Outcome.REJECTED, reply)


def _not_there(reply: Reply) -> Classified | None:
    """Recognise the answers that n8n gives while it, its database or its routes are not ready."""
    start = reply.body[:500].lower()
    if reply.status == 200 and start.lstrip(' \t\r\n"').startswith("n8n is starting up"):
        return Classified(Outcome.INSTANCE_DOWN, "n8n_starting", "n8n is starting up.", reached=False)
    if reply.status == 503 and "database is not ready" in start:
        return Classified(Outcome.INSTANCE_DOWN, "database_not_ready", "n8n's database is not ready.", reached=False)
    if reply.status == 404 and "cannot post /" in start:
        message = "n8n has not mounted its webhook routes, or N8N_WEBHOOK_URL names another path."
        return Classified(Outcome.INSTANCE_DOWN, "routes_not_mounted", message, reached=False)
    return None


def _not_registered(reply: Reply) -> Classified | None:
    if reply.status != 404 or "not registered" not in reply.body:
        return None
    message = _said(reply) + " Is the workflow published, and the path right?"
    return Classified(Outcome.MISCONFIGURED, "http_404_not_registered", message)


def _as(outcome: Outcome, reply: Reply) -> Classified:
    return Classified(outcome, f"http_{reply.status}", _said(reply))


def _said(reply: Reply) -> str:
    """Return n8n's own message, or else what the status means."""
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        return storable(document["message"][:MESSAGE_LIMIT])
    try:
        return http.HTTPStatus(reply.status).phrase
    except ValueError:
        return f"Status {reply.status}"
