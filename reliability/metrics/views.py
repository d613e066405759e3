"""`GET /metrics`, for Prometheus."""

import hmac
from datetime import UTC, datetime

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from reliability.api.common.problems import problem
from reliability.core import clock

from . import scrape

METHODS = ("GET", "HEAD")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="metrics"'}


def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape in the text format, or in OpenMetrics if the client asks for it."""
    if request.method not in METHODS:
        return problem(status=405, headers={"Allow": ", ".join(METHODS)})
    if not is_authorised(request.headers.get("Authorization", ""), settings.METRICS_TOKEN):
        return problem(status=401, detail="The metrics need their bearer token.", headers=CHALLENGE)
    answer = scrape.render(now=_now(), accept=request.headers.get("Accept", ""))
    return HttpResponse(answer.body, content_type=answer.content_type, headers={"Cache-Control": "no-store"})


def _now() -> datetime:
    """Return the database's time, which its rows use; without the database, this machine's."""
    # A scrape answers without the database: its other parts are still wanted then.
    try:
        return clock.now()
    except DatabaseError:
        return datetime.now(UTC)


def is_authorised(header: str, token: str) -> bool:
    """Whether a header has the bearer token, compared in constant time. Without a token, everyone may read."""
    if not token:
        return True
    scheme, _, given = header.partition(" ")
    is_bearer = scheme.lower() == "bearer"
    return hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode()) and is_bearer
