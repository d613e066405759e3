"""Classifies an attempt: what a reply from n8n, or the lack of one, means.

The rules are the table "What an answer means" in docs/design.md; the texts are those of n8n 2.x. A reply blames the
payload only if nothing but the workflow itself can have sent it: never for what a proxy, a restart or a setting can
cause.
"""

import enum
import http
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reliability.formats.storable import storable

from .error_codes import ErrorCode

MESSAGE_LIMIT = 300


class Outcome(enum.StrEnum):
    """The kinds of result of an attempt."""

    DELIVERED = "delivered"
    INSTANCE_DOWN = "instance_down"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    MISCONFIGURED = "misconfigured"
    MISCONFIGURED_LOCALLY = "misconfigured_locally"
    REFUSED = "refused"
    REJECTED = "rejected"


class Evidence(enum.StrEnum):
    """What an attempt proves about the n8n instance.

    `PRESENT`: n8n itself answered. `ABSENT`: n8n is down, and no workflow can cause this (refused connection, DNS or
    TLS failure). `SUSPECT`: a proxy or a single workflow can cause this too. `NONE`: nothing.
    """

    PRESENT = "present"
    ABSENT = "absent"
    SUSPECT = "suspect"
    NONE = "none"


class Failure(enum.StrEnum):
    """The kinds of failure without a reply."""

    CONNECTION_REFUSED = ErrorCode.CONNECTION_REFUSED
    CONNECTION_RESET = ErrorCode.CONNECTION_RESET
    DNS_FAILURE = ErrorCode.DNS_FAILURE
    CONNECT_TIMEOUT = ErrorCode.CONNECT_TIMEOUT
    TLS_HANDSHAKE_TIMEOUT = ErrorCode.TLS_HANDSHAKE_TIMEOUT
    TLS_ERROR = ErrorCode.TLS_ERROR
    SEND_INTERRUPTED = ErrorCode.SEND_INTERRUPTED
    CONNECTION_LOST_AFTER_SEND = ErrorCode.CONNECTION_LOST_AFTER_SEND
    READ_TIMEOUT = ErrorCode.READ_TIMEOUT
    CONNECTION_ERROR = ErrorCode.CONNECTION_ERROR
    LOCAL_FAULT = ErrorCode.LOCAL_FAULT


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response: status, headers by lower-case name, and the start of the body as text."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Classified:
    """The classification of an attempt. `reached` is false if n8n certainly did not run anything."""

    outcome: Outcome
    code: str = ""
    message: str = ""
    reached: bool = True
    evidence: Evidence = Evidence.NONE


_ABSENT, _SUSPECT = Evidence.ABSENT, Evidence.SUSPECT
_DOWN, _UNKNOWN = Outcome.INSTANCE_DOWN, Outcome.UNKNOWN
_FAILURES = {
    Failure.CONNECTION_REFUSED: (_DOWN, False, _ABSENT, "n8n refused the connection."),
    Failure.CONNECTION_RESET: (_DOWN, False, _SUSPECT, "The connection broke before the request was sent."),
    Failure.DNS_FAILURE: (_DOWN, False, _ABSENT, "n8n's host name does not resolve."),
    Failure.CONNECT_TIMEOUT: (_DOWN, False, _SUSPECT, "No connection within the time allowed."),
    Failure.TLS_HANDSHAKE_TIMEOUT: (_DOWN, False, _SUSPECT, "The TLS handshake did not end in time."),
    Failure.TLS_ERROR: (_DOWN, False, _ABSENT, "No secure connection could be made."),
    # n8n runs nothing for an incomplete request. But a request that is too large for a gateway ends like this too, so
    # it spends retries: otherwise it would be sent forever.
    Failure.SEND_INTERRUPTED: (
        Outcome.TRANSIENT,
        False,
        _SUSPECT,
        "The request could not be sent completely.",
    ),
    Failure.CONNECTION_LOST_AFTER_SEND: (
        _UNKNOWN,
        True,
        _SUSPECT,
        "The connection broke after the request was sent: n8n may be running it.",
    ),
    Failure.READ_TIMEOUT: (_UNKNOWN, True, _SUSPECT, "No answer in time: n8n may be running it."),
    Failure.CONNECTION_ERROR: (_UNKNOWN, True, _SUSPECT, "The request could not be completed: n8n may be running it."),
    Failure.LOCAL_FAULT: (
        Outcome.MISCONFIGURED_LOCALLY,
        False,
        Evidence.NONE,
        "Backstop could not send the request.",
    ),
}

# A gateway's statuses if its upstream does not answer; from 520 on they are Cloudflare's.
_GATEWAY = frozenset({502, 503, 504, *range(520, 528), 530})
_TRANSIENT = frozenset({408, 425, 429})
# A gateway sends these for a single request that is too large, or that matches a firewall rule.
_REFUSED = frozenset({403, 413, 414, 431})
# These concern the address, the method or the credentials, whoever sends them.
_ROUTE = frozenset({401, 405, 407, 421, 451})
_UNMOUNTED = re.compile(r"cannot (get|post|put|patch|delete|head|options) /")
_NO_OUTPUT = "No item to return was found"
_WRONG_CREDENTIALS = "Authorization data is wrong!"


def classify_failure(failure: Failure, detail: str = "", code: ErrorCode | Literal[""] = "") -> Classified:
    """Classify an attempt without a reply.

    `detail` is the operating system's or library's reason; of a local fault it is the whole message, which names the
    setting. `code` is more exact than the failure's own, where there is one.
    """
    outcome, reached, evidence, message = _FAILURES[failure]
    if detail:
        message = detail if failure is Failure.LOCAL_FAULT else f"{message} ({detail})"
    return Classified(outcome, code or str(failure), message, reached, evidence)


def classify_reply(reply: Reply) -> Classified:
    """Classify a reply."""
    # n8n's own texts first: a status alone does not tell n8n that is starting from a workflow that answers 200.
    document = _document(reply)
    is_json = document is not None or "json" in reply.headers.get("content-type", "").lower().partition(";")[0]
    special = _not_ready(reply) or _n8n_answer(reply, document)
    if special is not None:
        return special
    if 200 <= reply.status < 300:
        return Classified(Outcome.DELIVERED, evidence=Evidence.PRESENT)
    if reply.status in _GATEWAY:
        return _classified(Outcome.INSTANCE_DOWN, reply, document, evidence=Evidence.SUSPECT)
    present = Evidence.PRESENT if is_json else Evidence.NONE
    if reply.status in _TRANSIENT or reply.status >= 500:
        return _classified(Outcome.TRANSIENT, reply, document, evidence=present)
    if reply.status in _REFUSED:
        return _classified(Outcome.REFUSED, reply, document)
    if reply.status in _ROUTE or reply.status < 400:
        return _classified(Outcome.MISCONFIGURED, reply, document, hint=_hint(reply.status))
    if not is_json:
        hint = "The body is not JSON: a proxy answered, or the path is wrong."
        return _classified(Outcome.MISCONFIGURED, reply, document, suffix="_not_json", hint=hint)
    return _classified(Outcome.REJECTED, reply, document, evidence=present)


def _not_ready(reply: Reply) -> Classified | None:
    """Recognise replies of an n8n whose process, database or routes are not ready."""
    start = reply.body[:500].lower()
    if reply.status == 200 and start.lstrip(' \t\r\n"').startswith("n8n is starting up"):
        return _down(ErrorCode.N8N_STARTING, "n8n is starting up.")
    if reply.status == 503 and "database is not ready" in start:
        return _down(ErrorCode.DATABASE_NOT_READY, "n8n's database is not ready.")
    if reply.status == 404 and _UNMOUNTED.search(start):
        message = "n8n has not mounted its webhook routes, or N8N_WEBHOOK_URL names another path."
        return _down(ErrorCode.ROUTES_NOT_MOUNTED, message)
    return None


def _down(code: ErrorCode, message: str) -> Classified:
    return Classified(Outcome.INSTANCE_DOWN, code, message, reached=False, evidence=Evidence.SUSPECT)


def _n8n_answer(reply: Reply, document: Any) -> Classified | None:
    """Recognise n8n's own replies about a webhook, by their texts."""
    said = _message(document)
    if reply.status == 500 and said == _NO_OUTPUT:
        return Classified(Outcome.DELIVERED, evidence=Evidence.PRESENT)
    if reply.status == 404 and "not registered" in said:
        message = said[:MESSAGE_LIMIT] + " Is the workflow published, and the path right?"
        present = Evidence.PRESENT
        code = ErrorCode.HTTP_404_NOT_REGISTERED
        return Classified(Outcome.MISCONFIGURED, code, storable(message), evidence=present)
    if reply.status == 403 and reply.body.strip(' \t\r\n"') == _WRONG_CREDENTIALS:
        message = f"{_WRONG_CREDENTIALS} Compare the workflow's header with the Webhook node's credential."
        code = ErrorCode.HTTP_403_CREDENTIALS
        return Classified(Outcome.MISCONFIGURED, code, message, evidence=Evidence.PRESENT)
    return None


def _hint(status: int) -> str:
    if status < 400:
        return "A redirect is not followed: is this n8n's own address?"
    if status in (401, 407):
        return "Compare the workflow's header with the Webhook node's credential."
    return "A proxy answered, or the path is wrong."


def _classified(
    outcome: Outcome,
    reply: Reply,
    document: Any,
    *,
    evidence: Evidence = Evidence.NONE,
    suffix: str = "",
    hint: str = "",
) -> Classified:
    message = _message_of(reply, document)
    if hint:
        message = f"{message if message.endswith(('.', '!', '?')) else f'{message}.'} {hint}"
    return Classified(outcome, f"http_{reply.status}{suffix}", message, evidence=evidence)


def _document(reply: Reply) -> Any:
    """Return the body if it is a JSON object or array, else `None`."""
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict | list) else None


def _message(document: Any) -> str:
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else ""


def _message_of(reply: Reply, document: Any) -> str:
    """Return the reply's own message, or the phrase of its status."""
    if message := _message(document):
        return storable(message[:MESSAGE_LIMIT])
    try:
        return http.HTTPStatus(reply.status).phrase
    except ValueError:
        return f"Status {reply.status}"
