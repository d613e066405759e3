"""Refusals of the front end: reasons, answers and counts."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.template.loader import render_to_string
from prometheus_client import Counter

from reliability.api.common.problems import problem
from reliability.metrics.multiprocess import harmless

REFUSED = Counter("backstop_http_refused_total", "Requests that were refused or cut off, by reason.", ["reason"])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason and its answer. Status 0: there is no client to answer."""

    reason: str
    status: int
    detail: str
    code: str = ""
    retry_after: int = 0
    # Whether the sender may still be sending, and reads the answer only after it has sent everything.
    drains: bool = False


class Refused(Exception):
    """A request is refused."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.detail = detail or refusal.detail


TOO_LARGE = Refusal("too_large", 413, "The body is too large.", "too_large", drains=True)
BODY_IDLE = Refusal("body_idle", 408, "The body stopped arriving.", "timeout")
BODY_SLOW = Refusal("body_slow", 408, "The body arrived too slowly.", "timeout", drains=True)
BODY_BROKEN = Refusal("body_broken", 400, "The body is incomplete.", "invalid")
BUDGET_SPENT = Refusal(
    "buffer_full", 503, "Too many large bodies are being received: send this one again.", "unavailable", 5, drains=True
)
QUEUE_FULL = Refusal("queue_full", 503, "Too many requests are waiting: send this one again.", "unavailable", 2)
QUEUE_SLOW = Refusal("queue_timeout", 503, "No thread became free in time: send this one again.", "unavailable", 2)
ENDING = Refusal("ending", 503, "The server is shutting down: send this one again.", "unavailable", 2)
DUPLICATE = Refusal("duplicate_header", 400, "A header that may occur only once is repeated.", "invalid", drains=True)
GONE = Refusal("client_gone", 0, "")
SLOW_READER = Refusal("slow_reader", 0, "")
FAILED = Refusal("failed", 500, "Something went wrong on our side.", "internal")
ALL = (
    *(TOO_LARGE, BODY_IDLE, BODY_SLOW, BODY_BROKEN, BUDGET_SPENT, QUEUE_FULL, QUEUE_SLOW),
    *(ENDING, DUPLICATE, GONE, SLOW_READER),
)


def count(refusal: Refusal) -> None:
    """Count a refusal."""
    with harmless():
        REFUSED.labels(refusal.reason).inc()


def begin() -> None:
    """Create a series with 0 for every reason."""
    # Prometheus' `rate` needs a value before the first count.
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
