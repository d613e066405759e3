"""Where a request came from, and whether its body is as it was written."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from reliability.errors import EncodedBody


def address_of(environ: Mapping[str, Any]) -> str:
    """Return the caller's address: what the outermost of our own proxies (`TRUSTED_PROXIES`) saw."""
    hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if hop.strip()]
    trusted = settings.TRUSTED_PROXIES
    found = hops[-trusted] if trusted and len(hops) >= trusted else environ.get("REMOTE_ADDR", "")
    return "".join(one for one in str(found)[:100] if one.isprintable())


def refuse_encoded(environ: Mapping[str, Any]) -> None:
    """Raise `EncodedBody` for a body that is packed: read as it is, it would be taken for what it is not."""
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise EncodedBody
