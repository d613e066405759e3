"""Bodies that come in chunks. Django reads no body without a length, so they are given one before it looks."""

from io import BytesIO
from typing import Any

from django.conf import settings


def give_length(environ: dict[str, Any]) -> None:
    """Read a body that came in chunks, one byte beyond the limit at the most. Raises `OSError` where it broke off."""
    if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(settings.MAX_BODY_BYTES + 1)
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(body), str(len(body))
