"""The caller's address, and the refusal of encoded bodies."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from reliability.errors import EncodedBody


def address_of(environ: Mapping[str, Any]) -> str:
    """Return the caller's address, as the outermost trusted proxy (`TRUSTED_PROXIES`) saw it."""
    hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if hop.strip()]
    trusted = settings.TRUSTED_PROXIES
    found = hops[-trusted] if trusted and len(hops) >= trusted else environ.get("REMOTE_ADDR", "")
    return "".join(one for one in str(found)[:100] if one.isprintable())


def refuse_encoded(environ: Mapping[str, Any]) -> None:
    """Raise `EncodedBody` for a body with a `Content-Encoding`: Backstop would read the compressed bytes as text."""
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise EncodedBody
