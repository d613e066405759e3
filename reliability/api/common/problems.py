"""Errors as `application/problem+json` (RFC 9457)."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import Error
from django.http import Http404, HttpResponse
from django.http.request import UnreadablePostError
from rest_framework import exceptions

from config.database.sqlstates import code_of, is_unavailable
from reliability.core import request_context
from reliability.errors import BackstopError, EncodedBody, Unavailable
from reliability.policies.backoff import seconds_up

logger = logging.getLogger(__name__)
INTERNAL = "Internal error. The log has the details under this request_id."


def problem(
    *,
    status: int,
    detail: str = "",
    code: str = "",
    errors: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return an error as problem+json; with a `code`, `type` is more specific than the status."""
    title = HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": f"urn:backstop:error:{code.replace('_', '-')}" if code else "about:blank",
        "title": title,
        "status": int(status),
        "detail": detail or f"{title}.",
    }
    if name := request_context.request_id():
        body["request_id"] = name
    if errors:
        body["errors"] = dict(errors)
    return HttpResponse(
        json.dumps(body, default=str), status=status, content_type="application/problem+json", headers=headers
    )


def problem_of(error: BackstopError) -> HttpResponse:
    """Return a `BackstopError` as problem+json, with `Retry-After` if the error has one."""
    headers = {"Retry-After": str(seconds_up(error.retry_after))} if error.retry_after is not None else {}
    if isinstance(error, EncodedBody):
        headers["Accept-Encoding"] = "identity"  # the accepted encoding (RFC 9110, 15.5.16)
    return problem(status=error.status, detail=error.detail, code=error.code, errors=error.errors, headers=headers)


def not_kept(*, error: Error, doing: str) -> HttpResponse:
    """Return 503: the database did not answer. The work may be committed: only an idempotency key makes a repeat safe.

    The error's text may quote the statement with its payload, so it is neither logged nor shown.
    """
    details = {"doing": doing, "error": type(error).__name__, "sqlstate": code_of(error)}
    logger.error("database_away", extra=details)
    detail = "The database did not answer in time. The request may be stored: repeat it with the same Idempotency-Key."
    return problem_of(Unavailable(detail))


def handle(exception: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """Return the response for an exception of a view; never HTML, never a stack trace."""
    request = context.get("request")
    if request is not None:
        # The middleware that logs responses then logs no second message for this exception.
        getattr(request, "_request", request).problem = True
    if isinstance(exception, Error) and is_unavailable(exception):
        return not_kept(error=exception, doing=type(context.get("view")).__name__)
    answered = _answer(exception)
    if answered is None:
        logger.error("view_failed", exc_info=exception, extra={"view": type(context.get("view")).__name__})
        return problem(
            status=500,
            detail=INTERNAL,
            code="internal",
        )
    return answered


def _answer(exception: Exception) -> HttpResponse | None:
    match exception:
        case BackstopError():
            return problem_of(exception)
        case RequestDataTooBig():
            return problem(status=413, detail="The body is too large.", code="too_large")
        case SuspiciousOperation() | BadRequest():  # its message may quote the request
            return problem(status=400, detail="The request is not valid.", code="invalid")
        case UnreadablePostError():
            return problem(status=400, detail="The connection broke off before the whole body arrived.", code="invalid")
        case Http404():
            return problem(status=404)
        case PermissionDenied():
            return problem(status=403)
        case exceptions.ValidationError():
            detail, errors = "The request is not valid.", _by_field(exception.detail)
            return problem(status=400, detail=detail, code="invalid", errors=errors)
        case exceptions.APIException():
            return _of_framework(exception)
    return None


def _of_framework(exception: exceptions.APIException) -> HttpResponse:
    headers = {}
    if challenge := getattr(exception, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    return problem(
        status=exception.status_code,
        detail=str(exception.detail),
        code=exception.default_code,
        headers=headers,
    )


def _by_field(detail: Any) -> dict[str, Any]:
    return dict(detail) if isinstance(detail, dict) else {"non_field_errors": detail}
