"""The light reachability check: no database, no session, no template, no Django request.

`config.wsgi` asks it before Django; `scheduling.views` gives the same answers where another server is in front.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

PATH = re.compile(r"/cron/[a-z0-9][a-z0-9-]{0,62}/|/api/weekly-recap/?")
METHODS = frozenset({"GET", "HEAD"})
QUERY_LIMIT = 8192


@dataclass(frozen=True, slots=True)
class Answer:
    """A status line and a JSON body."""

    status: str
    body: bytes


REACHABLE = Answer("200 OK", b'{"ok": true, "message": "cron reachable"}')
FORBIDDEN = Answer("403 Forbidden", b'{"ok": false, "code": "FORBIDDEN"}')
NO_SECRET_SET = Answer("503 Service Unavailable", b'{"ok": false, "code": "NO_SECRET_SET"}')


def is_light(*, method: str, path: str) -> bool:
    """Say whether a request is a reachability check."""
    return method in METHODS and PATH.fullmatch(path) is not None


def answer(*, environ: Mapping[str, Any], secret: str) -> Answer:
    """Answer the check for a WSGI environment."""
    if not secret:
        return NO_SECRET_SET
    return REACHABLE if is_authorised(environ=environ, secret=secret) else FORBIDDEN


def is_authorised(*, environ: Mapping[str, Any], secret: str) -> bool:
    """Compare, in constant time, whichever way the caller showed the secret: bearer, header or query."""
    expected = secret.encode()
    return any(hmac.compare_digest(given, expected) for given in _given(environ))


def _given(environ: Mapping[str, Any]) -> Iterable[bytes]:
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip().encode("latin-1", "replace")
    if "HTTP_X_CRON_SECRET" in environ:
        yield environ["HTTP_X_CRON_SECRET"].strip().encode("latin-1", "replace")
    query = environ.get("QUERY_STRING", "")
    if "secret" in query and len(query) <= QUERY_LIMIT:
        for name, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1"):
            if name == "secret":
                yield value.encode("latin-1")


def respond(
    *, found: Answer, method: str, start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Send an answer; `HEAD` gets its headers only."""
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(found.body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(found.status, headers)
    return [b""] if method == "HEAD" else [found.body]
