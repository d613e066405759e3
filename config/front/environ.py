"""Makes a WSGI environment from an ASGI request. Only headers with unambiguous names are included.

WSGI writes `X-Forwarded-For` and `X_Forwarded_For` in the same way, so a name with an underscore is dropped: a proxy
that sets one of them may pass on the other. Repeated headers are joined in their order (RFC 9110, 5.3); one that may
occur only once, and that access or identity depends on, is refused if it is repeated.
"""

import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from .refusals import DUPLICATE, Refused

Headers = list[tuple[bytes, bytes]]

SINGLE = frozenset(
    {
        *("HTTP_HOST", "HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_X_CRON_SECRET", "HTTP_STRIPE_SIGNATURE"),
        *("HTTP_IDEMPOTENCY_KEY", "HTTP_X_FORWARDED_PROTO", "HTTP_X_CSRFTOKEN", "HTTP_ORIGIN", "HTTP_REFERER"),
        *("CONTENT_TYPE", "CONTENT_LENGTH"),
    }
)
# Framing headers: the server has processed them; the body is complete and its length is known. HTTP_PROXY: a header
# `Proxy` would look like the variable that names a proxy (httpoxy).
_LEFT_OUT = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_CONNECTION", "HTTP_EXPECT", "HTTP_PROXY"})
_WITHOUT_PREFIX = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
# How many header names are cached: clients may send any number of different ones.
_NAMES = 512
_keys: dict[bytes, str] = {}
_BASE: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "backstop",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}


def length_of(headers: Headers) -> int | None:
    """Return the body's length in bytes: 0 without a body, `None` if it is chunked."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value) if value.isdigit() else 0
    return length


def path_of(scope: Mapping[str, Any]) -> str:
    """Return the decoded path as WSGI wants it: each byte as a character (latin-1, PEP 3333)."""
    raw: bytes = scope["raw_path"]
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("latin-1")


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """Return a header's value by its exact name, joined if it is repeated; `None` if it is missing."""
    found = [value for key, value in scope["headers"] if key == name]
    return b",".join(found).decode("latin-1") if found else None


def make(scope: Mapping[str, Any], *, path: str, body: bytes, wrapper: Any) -> dict[str, Any]:
    """Return the WSGI environment of a request with its body. Raises `Refused` for a repeated header."""
    (server, port), client = scope["server"], scope["client"]
    environ = {
        **_BASE,
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": path,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.0" if scope["http_version"] == "1" else f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server,
        "SERVER_PORT": port,
        "REMOTE_ADDR": client[0],
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.file_wrapper": wrapper,
    }
    _put_headers(environ, scope["headers"])
    if environ["SERVER_PROTOCOL"] == "HTTP/1.0" and environ.get("HTTP_HOST") == "":
        del environ["HTTP_HOST"]  # HTTP/1.0 needs none, and Granian adds an empty one
    if body or "CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def _put_headers(environ: dict[str, Any], headers: Headers) -> None:
    for name, value in headers:
        key = _keys.get(name) or _key_of(name)
        if key == _DROPPED:
            continue
        text = value.decode("latin-1")
        if key in environ:
            if key in SINGLE:
                raise Refused(DUPLICATE, f"The header {name.decode('latin-1')} was sent twice.")
            text = f"{environ[key]}{';' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text


_DROPPED = "-"


def _key_of(name: bytes) -> str:
    """Return a header's key in the environment, or `_DROPPED`; cached for up to `_NAMES` names."""
    text = name.decode("latin-1").upper()
    key = text.replace("-", "_")
    if key not in _WITHOUT_PREFIX:
        key = f"HTTP_{key}"
    if "_" in text or key in _LEFT_OUT:
        key = _DROPPED
    if len(_keys) < _NAMES:
        _keys[name] = key
    return key
