"""Every kind of error that a caller can be answered with."""

from collections.abc import Iterator

from reliability.errors import BackstopError, ConfigurationError, SignatureRefused, UnknownEndpoint

from .tables import code, table

INTRODUCTION = """\
# Errors

Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, and `errors` by field where
fields are wrong. A `type` is `urn:backstop:error:` and one of the names below; `about:blank` says no more than its
status.

"""
OTHERS = """
Of the framework's own, with the same shape: 400 `parse_error` (the body is no JSON, or more than can be kept), 401
`authentication_failed`, 405 `method_not_allowed`, 406 `not_acceptable`, 415 `unsupported_media_type`; and 500
`internal`, whose cause is in the log. Names are written with `-` in a `type`: `urn:backstop:error:parse-error`.

Where a request may come again later, `Retry-After` says after how many seconds.
"""
# Not of the API: a setting's, at the start, and what Stripe alone is told.
ELSEWHERE = {BackstopError, ConfigurationError, SignatureRefused, UnknownEndpoint}


def page() -> str:
    """Return the page: one table, by status."""
    found = sorted({*_kinds(BackstopError)} - ELSEWHERE, key=lambda one: (one.status, one.code))
    rows = [(code(one.code.replace("_", "-")), str(one.status), _text(one), _retry(one)) for one in found]
    return (
        INTRODUCTION + table(("name", "status", "detail, unless there is more to say", "`Retry-After`"), rows) + OTHERS
    )


def _kinds(kind: type[BackstopError]) -> Iterator[type[BackstopError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _text(kind: type[BackstopError]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _retry(kind: type[BackstopError]) -> str:
    return f"{int(kind.retry_after.total_seconds())} s or more" if kind.retry_after else ""
