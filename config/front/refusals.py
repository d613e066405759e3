"""Refusals of the front end: their reasons, responses and counts."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.template.loader import render_to_string
from prometheus_client import Counter

from reliability.api.common.problems import problem
from reliability.metrics.multiprocess import harmless

REFUSED = Counter("backstop_http_refused_total", "Requests that were refused or aborted, by reason.", ["reason"])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason with its response; status 0 if the client is gone."""

    reason: str
    status: int
    detail: str
    code: str = ""
    retry_after: int = 0
    # Whether the client may still be sending, and reads no response before it has sent everything.
    drains: bool = False


class Refused(Exception):
    """The request is refused."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.detail = detail or refusal.detail


TOO_LARGE = Refusal("too_large", 413, "The body is too large.", "too_large", drains=True)
BODY_IDLE = Refusal("body_idle", 408, "The client sent no part of the body for too long.", "timeout")
BODY_SLOW = Refusal("body_slow", 408, "The client sent the body too slowly.", "timeout", drains=True)
BODY_BROKEN = Refusal("body_broken", 400, "The connection broke off before the whole body arrived.", "invalid")
BUDGET_SPENT = Refusal(
    "buffer_full", 503, "The server is receiving too many large bodies. Try again later.", "unavailable", 5, drains=True
)
QUEUE_FULL = Refusal("queue_full", 503, "Too many requests are waiting. Try again later.", "unavailable", 2)
QUEUE_SLOW = Refusal("queue_timeout", 503, "No thread became free in time. Try again later.", "unavailable", 2)
ENDING = Refusal("ending", 503, "The server is shutting down. Try again later.", "unavailable", 2)
DUPLICATE = Refusal("duplicate_header", 400, "A header that must be unique was sent twice.", "invalid", drains=True)
GONE = Refusal("client_gone", 0, "")
SLOW_READER = Refusal("slow_reader", 0, "")
FAILED = Refusal("failed", 500, "Internal error. The log has the details under this request_id.", "internal")
ALL = (
    *(TOO_LARGE, BODY_IDLE, BODY_SLOW, BODY_BROKEN, BUDGET_SPENT, QUEUE_FULL, QUEUE_SLOW),
    *(ENDING, DUPLICATE, GONE, SLOW_READER),
)


def count(refusal: Refusal) -> None:
    """Count a refusal."""
    with harmless():
        REFUSED.labels(refusal.reason).inc()


def begin() -> None:
    """Create every reason with 0: Prometheus cannot see an increase of a series that begins at 1."""
    with harmless():
        for one in ALL:
            REFUSED.labels(one.reason)


def answer(refusal: Refusal, *, path: str, detail: str = "") -> tuple[int, list[tuple[str, str]], bytes]:
    """Return the answer as status, headers and body: a page for the console, else problem details."""
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
    detail = detail or refusal.detail
    found: HttpResponse
    if path.startswith("/admin"):
        page = render_to_string("refused.html", {"detail": detail})
        found = HttpResponse(page, status=refusal.status, headers=headers)
    else:
        found = problem(status=refusal.status, detail=detail, code=refusal.code, headers=headers)
    return found.status_code, list(found.items()), found.content
