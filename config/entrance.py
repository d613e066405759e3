"""What every request passes on its way in: it gets its id, and with `ACCESS_LOG` a line in the log."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from reliability.core import request_context

Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]

logger = logging.getLogger("backstop.access")


def identified(application: Application) -> Application:
    """Give each request its id; the answer's header `X-Request-Id` names it."""

    def answer(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        found = request_context.from_headers(
            given=environ.get("HTTP_X_REQUEST_ID"), traceparent=environ.get("HTTP_TRACEPARENT")
        )

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, (request_context.HEADER, found.request_id)], *rest)

        with request_context.within(found):
            return application(environ, start)

    return answer


def logged(application: Application) -> Application:
    """Write a line for each request, once its answer begins; without its query, which may hold a secret."""

    def answer(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        begun = time.perf_counter()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            log(environ, status, headers, time.perf_counter() - begun)
            return start_response(status, headers, *rest)

        return application(environ, start)

    return answer


def log(environ: dict[str, Any], status: str, headers: list[tuple[str, str]], took: float) -> None:
    """Write the line of a request that took so many seconds."""
    found = {name.lower(): value for name, value in headers}
    logger.info(
        "request",
        extra={
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"],
            "status": int(status[:3]),
            "duration_ms": round(took * 1000, 2),
            "bytes": int(found.get("content-length") or -1),
            "address": environ.get("REMOTE_ADDR", ""),
            "request_id": found.get(request_context.HEADER.lower(), ""),
        },
    )
