"""The ASGI application: answers the light endpoint and /healthz itself, any other request in a thread."""

import hmac
import time
from collections.abc import Mapping
from typing import Any

from config import measuring
from reliability.core import request_context
from scheduling import counting, light

from . import environ, refusals, sending, sockets
from .bodies import Drain, Receive
from .budget import Budget
from .exchange import Exchange, Service, context_of, log
from .limits import Limits
from .pool import Pool, Sweeper
from .sending import Send
from .shutdown import Shutdown
from .wsgi_runner import Application, Whole

Scope = Mapping[str, Any]

HEALTHZ, HEALTHY = "/healthz", b'{"ok": true}'

# The headers that Django's middleware adds to every answer; /healthz does not pass through it.
_SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
]


class FrontApplication:
    """The requests of one server process."""

    def __init__(self, application: Application, *, secret: str, limits: Limits, logs: bool) -> None:
        pool = Pool(limits)
        budget, drain = Budget(limits.buffered_bytes), Drain(limits)
        self._service = Service(application, pool, Sweeper(pool), budget, drain, Shutdown(), limits, logs)
        self._light = _LightEndpoint(secret)
        self._began = False
        refusals.begin()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._lifespan(receive, send)
            return
        # The light endpoint's fast path: no parsing, no await, prebuilt messages. It must answer whatever else is
        # stuck.
        if not self._service.logs and self._light.try_usual(scope):
            send(self._light.start)
            send(self._light.body)
            return
        # With the first request, when the listening socket certainly exists: accepted sockets inherit the option from
        # it.
        if not self._began:
            self._began = True
            sockets.limit_unread(2 * self._service.limits.send_seconds)
        path = environ.path_of(scope)
        found = self._answer_in_loop(scope, path)
        if found is not None:
            sending.now(send, found)
            return
        await Exchange(self._service, scope, receive, send, path).run()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Handle the ASGI lifespan: the server's start and end."""
        while True:
            message = await receive()
            if message["type"] not in ("lifespan.startup", "lifespan.shutdown"):
                return
            if message["type"] == "lifespan.startup":
                self._service.shutdown.listen()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    def _answer_in_loop(self, scope: Scope, path: str) -> Whole | None:
        """Return the answer to a request that needs no thread (light endpoint, /healthz), else `None`."""
        method, began = scope["method"], time.perf_counter()
        if light.is_light(method=method, path=path):
            answer = self._light.answer(scope, path)
        elif path == HEALTHZ and method in light.METHODS:
            answer = _healthz(scope, began)
        else:
            return None
        log(self._service, scope, path, answer, began)
        return answer


def _healthz(scope: Scope, began: float) -> Whole:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(HEALTHY)))]
    headers += [*_SECURITY_HEADERS, (request_context.HEADER, context_of(scope).request_id)]
    took = time.perf_counter() - began
    measuring.count(view="reliability.views.healthz", method=scope["method"], status=200, seconds=took)
    return Whole(200, headers, b"" if scope["method"] == "HEAD" else HEALTHY)


class _LightEndpoint:
    """The light endpoint: reachability checks by external crons."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._usual = b"Bearer " + secret.encode() if secret else b""
        self.start = sending.start(200, light.REACHABLE.headers)
        self.body = {"type": "http.response.body", "body": light.REACHABLE.body}

    def try_usual(self, scope: Scope) -> bool:
        """Count the request and return `True` if it is a `GET` of a known job with the secret as a bearer token."""
        count = counting.reached.get(scope["path"])
        if count is None or not self._usual or scope["method"] != "GET":
            return False
        # Exactly one header: with two, it would depend on the server which one counts.
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._usual):
            return False
        count()
        return True

    def answer(self, scope: Scope, path: str) -> Whole:
        """Answer any request to the light endpoint."""
        shown = {"QUERY_STRING": scope["query_string"].decode("latin-1")}
        for key, name in (("HTTP_AUTHORIZATION", b"authorization"), ("HTTP_X_CRON_SECRET", b"x-cron-secret")):
            if (value := environ.header(scope, name)) is not None:
                shown[key] = value
        found = light.answer(environ=shown, secret=self._secret)
        counting.light(path=path, found=found)
        return Whole(int(found.status[:3]), found.headers, b"" if scope["method"] == "HEAD" else found.body)
