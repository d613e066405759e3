"""One request that needs a thread: reads its body, waits for a thread, runs the application, sends its answer."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from config import entrance
from config.database import roles
from config.database.roles import Role
from reliability.api.stripe import webhook
from reliability.core import request_context

from . import bodies, environ, refusals, sending, sockets, wsgi_runner
from .bodies import Receive
from .budget import Budget
from .limits import PIECE, Limits
from .pool import Full, Job, Kind, Pool, Sweeper
from .refusals import Refusal, Refused
from .sending import Send, Stream
from .shutdown import Shutdown
from .wsgi_runner import Answer, File, Headers, Whole

Scope = Mapping[str, Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What all requests of a process have in common."""

    application: wsgi_runner.Application
    pool: Pool
    sweeper: Sweeper
    budget: Budget
    drain: bodies.Drain
    shutdown: Shutdown
    limits: Limits
    logs: bool


def context_of(scope: Scope) -> request_context.RequestContext:
    """Return the context of a request, as `config.entrance` makes it."""
    given, trace = environ.header(scope, b"x-request-id"), environ.header(scope, b"traceparent")
    return request_context.from_headers(given=given, traceparent=trace)


def kind_of(role: Role) -> Kind:
    """Return the kind of requests of a role. Intake, with its short limits, may take the last thread."""
    return Kind.INTAKE if role in (roles.INTAKE, roles.READINESS) else Kind.OTHER


def max_wait_of(role: Role) -> float:
    """Return how many seconds a request may wait for a thread, so that part of its limit is left for its work."""
    return role.limit * (1 - roles.LEAST_SHARE) or roles.FOREVER


class Exchange:
    """A request and its answer. Everything except `_work` and what it calls runs in the event loop."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        self._service, self._scope, self._receive, self._send, self._path = service, scope, receive, send, path
        self._began = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._reservation = service.budget.open()
        self._is_read = self._is_begun = False
        self._stream: Stream | None = None
        self._watching: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer the request."""
        running = self._service.shutdown.running
        running[id(self)] = self._scope["client"]
        try:
            refused = await self._serve()
            # Refused here and not in the `except` below: an exception keeps frames alive, and with them the body, while
            # the sender is still being drained.
            self._reservation.close()
            if refused is not None:
                await self._refuse(*refused)
        finally:
            del running[id(self)]
            self._reservation.close()
            if self._watching is not None:
                self._watching.cancel()

    async def _serve(self) -> "tuple[Refusal, str] | None":
        """Answer the request; return the refusal if it is refused."""
        try:
            answer = await self._run_in_thread(await self._read())
            if answer is not None:
                await self._answer(answer)
        except Refused as refused:
            return refused.refusal, refused.detail
        return None

    async def _read(self) -> dict[str, Any]:
        """Read the body and return the WSGI environment. Raises `Refused`."""
        length = environ.length_of(self._scope["headers"])
        limit = self._service.limits.body_of(self._path)
        body = b""
        if length != 0:
            try:
                service = self._service
                body = await bodies.read(
                    self._receive,
                    length=length,
                    limit=limit,
                    reservation=self._reservation,
                    limits=service.limits,
                    shutdown=service.shutdown,
                )
            except Refused as refused:
                if refused.refusal is not refusals.TOO_LARGE or webhook.slug_of(self._path) is None:
                    raise
                # The Stripe webhook records each refusal, this one by its Content-Length: it gets no body.
                made = environ.make(self._scope, path=self._path, body=b"", wrapper=wsgi_runner.FileWrapper)
                return {**made, "CONTENT_LENGTH": str(max(length or 0, limit + 1))}
        self._is_read = True
        return environ.make(self._scope, path=self._path, body=body, wrapper=wsgi_runner.FileWrapper)

    async def _run_in_thread(self, environment: dict[str, Any]) -> Answer | None:
        """Run the application in a thread; return what is left to be sent. Raises `Refused`."""
        self._settled: asyncio.Future[Answer | None] = self._loop.create_future()
        role = roles.of(method=self._scope["method"], path=self._path)
        environment[roles.ARRIVED] = time.monotonic()
        self._job = Job(
            kind_of(role),
            max_wait=max_wait_of(role),
            run=partial(self._work, environment),
            on_wait=self._watch_client,
            expire=lambda: self._settle(Refused(refusals.QUEUE_SLOW)),
        )
        del environment  # the job has it: the body must not be kept here while the answer is sent
        try:
            self._service.pool.submit(self._job)
            self._service.sweeper.begin()
        except Full:
            raise Refused(refusals.QUEUE_FULL) from None
        try:
            return await self._settled
        finally:
            del self._job  # and with it the body: an answer may take minutes to send

    def _work(self, environment: dict[str, Any]) -> None:
        """Run the application; called in a thread of the pool."""
        outcome: Answer | Refused | None
        try:
            outcome = wsgi_runner.run(self._service.application, environment, self)
        except Refused as refused:
            outcome = refused
        except Exception:
            logger.exception("request_failed", extra={"path": self._path})
            outcome = Refused(refusals.FAILED)
        self._loop.call_soon_threadsafe(self._settle, outcome)

    def send_small(self, answer: Whole) -> bool:
        """Send an answer that needs no waiting; called in the thread that made it. Return whether it was sent."""
        # From the thread: a way through the event loop costs more than the rest of a small answer.
        if len(answer.body) > PIECE or not self._is_read:
            return False
        self._is_begun = True
        sending.now(self._send, answer)
        return True

    def stream(self, status: int, headers: Headers, pieces: Iterator[bytes]) -> None:
        """Send an answer while it is made; called in the thread that makes it. Raises `Refused`."""
        self._is_begun = True
        limits = self._service.limits
        self._stream = Stream(self._send, loop=self._loop, reservation=self._reservation, limits=limits)
        self._loop.call_soon_threadsafe(self._watch_client)
        self._stream.run(status, headers, pieces)

    def _settle(self, outcome: "Answer | Refused | None") -> None:
        # The thread, the queue's limit and the client's disconnect may all end a request: the first one counts.
        if self._settled.done():
            return
        if isinstance(outcome, Refused):
            self._settled.set_exception(outcome)
        else:
            self._settled.set_result(outcome)

    def _watch_client(self) -> None:
        """Start watching for the client's disconnect."""
        if self._watching is None:
            self._watching = self._loop.create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the end message of a body that was read by its length
        if self._stream is not None:
            self._stream.gone = True
        # Without a job the request was answered, and the answer may still be being sent.
        elif (job := getattr(self, "_job", None)) is not None and self._service.pool.withdraw(job):
            self._settle(Refused(refusals.GONE))

    async def _answer(self, answer: Answer) -> None:
        self._reservation.close()
        self._reservation = self._service.budget.open()
        if not self._is_read:
            await self._end(answer)
            return
        self._is_begun = True
        send = sending.file if isinstance(answer, File) else sending.whole
        await send(self._send, answer, reservation=self._reservation, limits=self._service.limits)  # type: ignore[arg-type]

    async def _end(self, answer: Answer, *, drains: bool = True) -> None:
        """Answer a request whose body was not read completely, and drain the body."""
        if not isinstance(answer, Whole):
            raise Refused(refusals.FAILED)
        sending.now(self._send, Whole(answer.status, [*answer.headers, ("Connection", "close")], answer.body))
        if drains:
            await self._service.drain.run(self._receive)

    async def _refuse(self, refusal: Refusal, detail: str) -> None:
        refusals.count(refusal)
        if self._is_begun or not refusal.status:
            server, client = self._scope["server"], self._scope["client"]
            sockets.shut(client=client, port=int(server[1]))
            return
        found = context_of(self._scope)
        with request_context.within(found):
            status, headers, body = refusals.answer(refusal, path=self._path, detail=detail)
        headers.append((request_context.HEADER, found.request_id))
        answer = Whole(status, headers, b"" if self._scope["method"] == "HEAD" else body)
        log(self._service, self._scope, self._path, answer, self._began)
        if self._is_read:
            sending.now(self._send, answer)
        else:
            await self._end(answer, drains=refusal.drains)


def log(service: Service, scope: Scope, path: str, answer: Whole, began: float) -> None:
    """Write the access log line of a request that the application does not see, if there is an access log."""
    if service.logs:
        about = {"REQUEST_METHOD": scope["method"], "PATH_INFO": path, "REMOTE_ADDR": scope["client"][0]}
        entrance.log(about, str(answer.status), answer.headers, time.perf_counter() - began)
