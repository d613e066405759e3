"""What an answer from n8n, or the lack of one, means.

The rules are the design's table "What an answer means"; the texts are those of n8n 2.x. An answer makes a payload
the culprit only if it can come from nobody but the workflow itself: a proxy, a restart or a setting never does.
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
    """The kinds of end that an attempt can have."""

    DELIVERED = "delivered"
    INSTANCE_DOWN = "instance_down"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    MISCONFIGURED = "misconfigured"
    MISCONFIGURED_LOCALLY = "misconfigured_locally"
    REFUSED = "refused"
    REJECTED = "rejected"


class Evidence(enum.StrEnum):
    """What an attempt shows of the instance behind it.

    `PRESENT`: n8n itself answered. `ABSENT`: no workflow can have caused this (the connection was refused, or there
    was none to make). `SUSPECT`: a proxy, or one workflow alone, can have caused this too. `NONE`: nothing.
    """

    PRESENT = "present"
    ABSENT = "absent"
    SUSPECT = "suspect"
    NONE = "none"


class Failure(enum.StrEnum):
    """The ways in which no reply comes."""

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
    """The verdict on an attempt. `reached` is false where n8n certainly did not run anything."""

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
    # n8n runs nothing of an incomplete request, but a request that is too large for a gateway also ends like this:
    # so it spends retries.
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

# Of a gateway whose upstream does not answer; from 520 on they are Cloudflare's.
_GATEWAY = frozenset({502, 503, 504, *range(520, 528), 530})
_TRANSIENT = frozenset({408, 425, 429})
# A gateway gives these for one request that is too large, or that a firewall's rule matches.
_REFUSED = frozenset({403, 413, 414, 431})
# These are about the address, the method or the credentials, whoever answers.
_ROUTE = frozenset({401, 405, 407, 421, 451})
_UNMOUNTED = re.compile(r"cannot (get|post|put|patch|delete|head|options) /")
_NO_OUTPUT = "No item to return was found"
_WRONG_CREDENTIALS = "Authorization data is wrong!"


def classify_failure(failure: Failure, detail: str = "", code: ErrorCode | Literal[""] = "") -> Classified:
    """Return what it means that no reply came.

    `detail` is the operating system's or library's reason; of a local fault it is the whole message, which names the
    setting. `code` is more exact than the failure's own, where there is one.
    """
    outcome, reached, evidence, message = _FAILURES[failure]
    if detail:
        message = detail if failure is Failure.LOCAL_FAULT else f"{message} ({detail})"
    return Classified(outcome, code or str(failure), message, reached, evidence)


def classify_reply(reply: Reply) -> Classified:
    """Return what a reply means."""
    document = _document(reply)
    is_json = document is not None or "json" in reply.headers.get("content-type", "").lower().partition(";")[0]
    special = _not_there(reply) or _of_n8n(reply, document)
    if special is not None:
        return special
    if 200 <= reply.status < 300:
        return Classified(Outcome.DELIVERED, evidence=Evidence.PRESENT)
    if reply.status in _GATEWAY:
        return _as(Outcome.INSTANCE_DOWN, reply, document, evidence=Evidence.SUSPECT)
    present = Evidence.PRESENT if is_json else Evidence.NONE
    if reply.status in _TRANSIENT or reply.status >= 500:
        return _as(Outcome.TRANSIENT, reply, document, evidence=present)
    if reply.status in _REFUSED:
        return _as(Outcome.REFUSED, reply, document)
    if reply.status in _ROUTE or reply.status < 400:
        return _as(Outcome.MISCONFIGURED, reply, document, hint=_hint(reply.status))
    if not is_json:
        hint = "The body is not JSON: a proxy answered, or the path is wrong."
        return _as(Outcome.MISCONFIGURED, reply, document, suffix="_not_json", hint=hint)
    return _as(Outcome.REJECTED, reply, document, evidence=present)


def _not_there(reply: Reply) -> Classified | None:
    """Recognise the answers that n8n gives while it, its database or its routes are not ready."""
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


def _of_n8n(reply: Reply, document: Any) -> Classified | None:
    """Recognise n8n's own answers about a webhook, which its texts tell from a workflow's."""
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


def _as(
    outcome: Outcome,
    reply: Reply,
    document: Any,
    *,
    evidence: Evidence = Evidence.NONE,
    suffix: str = "",
    hint: str = "",
) -> Classified:
    message = " ".join(filter(None, (_sentence(_said(reply, document)) if hint else _said(reply, document), hint)))
    return Classified(outcome, f"http_{reply.status}{suffix}", message, evidence=evidence)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _document(reply: Reply) -> Any:
    """Return the body where it is a JSON object or array, else `None`."""
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict | list) else None


def _message(document: Any) -> str:
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else ""


def _said(reply: Reply, document: Any) -> str:
    """Return n8n's own message, or else what the status means."""
    if message := _message(document):
        return storable(message[:MESSAGE_LIMIT])
    try:
        return http.HTTPStatus(reply.status).phrase
    except ValueError:
        return f"Status {reply.status}"
