"""Chunked request bodies. Django reads no body without a `Content-Length`, so this sets it first."""

from io import BytesIO
from typing import Any

from django.conf import settings


def give_length(environ: dict[str, Any]) -> None:
    """Read a chunked body, at most one byte beyond the limit. Raises `OSError` if the connection broke off."""
    if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(settings.MAX_BODY_BYTES + 1)
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(body), str(len(body))
