"""The light reachability check: no database, no session, no template, no Django request.

`config.wsgi` calls it before Django; `scheduling.views` gives the same answers under another WSGI application.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qsl

PATH = re.compile(r"/cron/[a-z0-9][a-z0-9-]{0,62}/|/api/weekly-recap/?")
METHODS = frozenset({"GET", "HEAD"})
QUERY_LIMIT = 8192


@dataclass(frozen=True)
class Answer:
    """A status line, a JSON body, and its headers."""

    status: str
    body: bytes

    @cached_property
    def headers(self) -> list[tuple[str, str]]:
        length = str(len(self.body))
        return [("Content-Type", "application/json"), ("Content-Length", length), ("Cache-Control", "no-store")]


REACHABLE = Answer("200 OK", b'{"ok": true, "message": "cron reachable"}')
FORBIDDEN = Answer("403 Forbidden", b'{"ok": false, "code": "FORBIDDEN"}')
NO_SECRET_SET = Answer("503 Service Unavailable", b'{"ok": false, "code": "NO_SECRET_SET"}')


def is_light(*, method: str, path: str) -> bool:
    """Whether a request is a reachability check."""
    return method in METHODS and _is_light_path(path)


@lru_cache(maxsize=256)
def _is_light_path(path: str) -> bool:
    return PATH.fullmatch(path) is not None


def answer(*, environ: Mapping[str, Any], secret: str) -> Answer:
    """Return the answer to a check, for its WSGI environment."""
    if not secret:
        return NO_SECRET_SET
    return REACHABLE if is_authorised(environ=environ, secret=secret) else FORBIDDEN


def is_usual(*, environ: Mapping[str, Any], secret: str) -> bool:
    """Whether this is a `GET` with the secret as a bearer token: the common case, checked first."""
    header = environ.get("HTTP_AUTHORIZATION")
    if not secret or header is None or environ["REQUEST_METHOD"] != "GET":
        return False
    return hmac.compare_digest(header.encode("latin-1", "replace"), _bearer(secret))


def is_authorised(*, environ: Mapping[str, Any], secret: str) -> bool:
    """Compare the secret in constant time, from the bearer token, the header or the query."""
    expected = _encoded(secret)
    header = environ.get("HTTP_AUTHORIZATION")
    if header is not None and header[:7].lower() == "bearer ":
        given = header[7:].strip().encode("latin-1", "replace")
        if hmac.compare_digest(given, expected):
            return True
    return any(hmac.compare_digest(given, expected) for given in _other_secrets(environ))


@lru_cache(maxsize=2)
def _bearer(secret: str) -> bytes:
    return b"Bearer " + secret.encode()


@lru_cache(maxsize=2)
def _encoded(secret: str) -> bytes:
    return secret.encode()


def _other_secrets(environ: Mapping[str, Any]) -> Iterable[bytes]:
    if "HTTP_X_CRON_SECRET" in environ:
        yield environ["HTTP_X_CRON_SECRET"].strip().encode("latin-1", "replace")
    query = environ.get("QUERY_STRING")
    if query and "secret" in query and len(query) <= QUERY_LIMIT:
        for name, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1"):
            if name == "secret":
                yield value.encode("latin-1")


def respond(
    *, found: Answer, method: str, start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Send an answer; for `HEAD` only its headers."""
    start_response(found.status, found.headers)
    return [b""] if method == "HEAD" else [found.body]
