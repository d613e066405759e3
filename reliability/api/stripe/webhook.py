"""The Stripe webhook endpoint: `POST /stripe/webhook/<endpoint>/`.

`config.wsgi` calls it before Django, since an event needs no session and no middleware; `view` gives the same answers
under another WSGI application. After any answer but a 2xx, Stripe sends the event again, for days.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from config.database.sqlstates import code_of, is_lost
from reliability.api.common.addresses import address_of, refuse_encoded
from reliability.api.common.problems import INTERNAL, problem, problem_of
from reliability.errors import BackstopError, EncodedBody, InvalidInput, PayloadTooLarge
from reliability.models import DEFAULT_ENDPOINT
from reliability.models.fields import SLUG_PATTERN
from reliability.stripe import ledger
from reliability.stripe.ledger import WebhookRequest

PATH = re.compile(rf"/stripe/webhook/(?:(?P<slug>{SLUG_PATTERN})/?)?")
NEW = b'{"received": true, "duplicate": false}'
REPEAT = b'{"received": true, "duplicate": true}'

logger = logging.getLogger(__name__)
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def slug_of(path: str) -> str | None:
    """Return the endpoint in a path; `None` if it is not a path of the webhook."""
    found = PATH.fullmatch(path)
    return (found["slug"] or DEFAULT_ENDPOINT) if found else None


def respond(*, environ: Mapping[str, Any], slug: str, start_response: StartResponse) -> Iterable[bytes]:
    """Handle a request as a WSGI application."""
    return send(response=answer(environ=environ, slug=slug), start_response=start_response)


def send(*, response: HttpResponse, start_response: StartResponse) -> Iterable[bytes]:
    """Send a response as a WSGI application."""
    status = HTTPStatus(response.status_code)
    start_response(f"{status.value} {status.phrase}", list(response.items()))
    return [response.content]


@csrf_exempt
def view(request: HttpRequest, slug: str = DEFAULT_ENDPOINT) -> HttpResponse:
    """Handle a request within Django."""
    return answer(environ=request.META, slug=slug)


def answer(*, environ: Mapping[str, Any], slug: str) -> HttpResponse:
    """Receive an event: 200 when it is stored, else a problem."""
    if environ["REQUEST_METHOD"] != "POST":
        return problem(status=405, headers={"Allow": "POST"})
    try:
        arrival = _arrival(environ, slug)
        recorded = _store(arrival)
    except BackstopError as error:
        return problem_of(error)
    except Error as error:
        # The error text may quote the statement, which contains the event.
        state = code_of(error)
        logger.error("stripe_not_kept", extra={"endpoint": slug, "error": type(error).__name__, "sqlstate": state})
        connection.close()
        return problem(
            status=503,
            detail="The event could not be stored: the database did not answer. Send it again.",
            headers={"Retry-After": "30"},
        )
    except Exception:
        logger.exception("stripe_failed")
        return problem(
            status=500,
            detail=INTERNAL,
            code="internal",
        )
    body = REPEAT if recorded.duplicate else NEW
    length = {"Content-Length": str(len(body))}
    return HttpResponse(body, content_type="application/json", headers=length)


def _store(arrival: WebhookRequest) -> ledger.Recorded:
    """Store an event; retry once if the connection was lost: if the first try was committed, it is a duplicate."""
    now = datetime.now(UTC)
    try:
        return ledger.receive(arrival=arrival, now=now)
    except Error as error:
        if connection.in_atomic_block or not is_lost(error):
            raise
        connection.close()
        return ledger.receive(arrival=arrival, now=now)


def _arrival(environ: Mapping[str, Any], slug: str) -> WebhookRequest:
    address = address_of(environ)
    try:
        refuse_encoded(environ)
        body = _body(environ, settings.STRIPE_MAX_BODY_BYTES)
    except (EncodedBody, PayloadTooLarge) as error:
        ledger.record_refusal(slug=slug, error=error, address=address)
        raise
    return WebhookRequest(slug, body, environ.get("HTTP_STRIPE_SIGNATURE", ""), address)


def _length(environ: Mapping[str, Any]) -> int:
    """Return the `Content-Length`; -1 without one."""
    length = str(environ.get("CONTENT_LENGTH") or "")
    return int(length) if length.isascii() and length.isdigit() else -1


def _body(environ: Mapping[str, Any], limit: int) -> bytes:
    """Read the body, at most one byte beyond `limit`. Without a length, it is chunked or empty.

    Raises `PayloadTooLarge`, and `InvalidInput` if the connection broke off.
    """
    length = _length(environ)
    if length > limit:  # the web server may have discarded it
        raise PayloadTooLarge(f"The body is larger than {limit:,} bytes.")
    if length < 0 and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    wanted = limit + 1 if length < 0 else length
    try:
        body: bytes = environ["wsgi.input"].read(min(wanted, limit + 1))
    except OSError:
        raise InvalidInput("The connection broke off before the whole body arrived.") from None
    if len(body) > limit:
        raise PayloadTooLarge(f"The body is larger than {limit:,} bytes.")
    return body
