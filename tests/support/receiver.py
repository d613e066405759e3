"""A real HTTP server in n8n's place, which answers as it is told and remembers what came."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    method: str = "POST"

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


@dataclass
class Reply:
    """What to answer: `wait` seconds first; a `status` of 0 hangs up instead."""

    status: int = 200
    body: str = '{"ok": true}'
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0


# Seconds for what takes one at most: a loaded machine needs many times as long.
PATIENCE = 120.0


class Receiver:
    """Answers by `rule`, a function of the request; `peak` is the most requests that were open at once, by path."""

    def __init__(self) -> None:
        self.rule: Callable[[Got], Reply] = lambda got: Reply()
        self.got: list[Got] = []
        self.open: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook"

    @property
    def keys(self) -> Counter[str]:
        return Counter(one.key for one in self.got)

    def start(self) -> "Receiver":
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def always(self, status: int = 200, body: str = '{"ok": true}', **options) -> None:
        self.rule = lambda got: Reply(status, body, **options)

    def wait_for(self, count: int, *, within: float = PATIENCE) -> list[Got]:
        """Return the requests once there are `count`."""
        until(lambda: len(self.got) >= count, within=within, what=f"{count} requests, got {len(self.got)}")
        return self.got

    def take(self, got: Got) -> Reply:
        with self._lock:
            self.got.append(got)
            self.open[got.path] += 1
            self.peak[got.path] = max(self.peak[got.path], self.open[got.path])
        return self.rule(got)

    def done(self, path: str) -> None:
        with self._lock:
            self.open[path] -= 1


def until(true: Callable[[], object], *, within: float = PATIENCE, what: str = "it"):
    """Return what `true` returns once that is true."""
    deadline = time.monotonic() + within
    while not (found := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within} s in vain for {what}")
        time.sleep(0.03)
    return found


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address) -> None:
        """A worker that was killed breaks its connections: that is what the tests are about."""


def _handler(receiver: Receiver):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = receiver.take(Got(self.path, headers, body, time.time(), self.command))
            try:
                self._answer(reply)
            finally:
                receiver.done(self.path)

        def do_GET(self) -> None:
            self.do_POST()

        def _answer(self, reply: Reply) -> None:
            time.sleep(reply.wait)
            if not reply.status:
                self.close_connection = True
                self.connection.close()
                return
            data = reply.body.encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(data)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

        def log_message(self, *args) -> None:
            pass

    return Handler
