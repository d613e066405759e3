"""n8n's REST API in place of n8n: a real server with the shapes that a real n8n 2.39 answered."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "n8n-api-key"
SCOPES = ("execution:read", "execution:list", "execution:retry", "workflow:list")


def execution(number: str, status: str = "error", **values: Any) -> dict[str, Any]:
    """An execution of the workflow `wf1`, begun by a webhook; `headers` are its request's."""
    headers = values.pop("headers", {})
    message = values.pop("message", "boom")
    webhook = {"name": "Webhook", "type": "n8n-nodes-base.webhook", "parameters": {"path": "echo"}}
    item = {"json": {"headers": {"host": "n8n", **headers}, "params": {}, "query": {}, "body": {"n": 1}}}
    bad = status in ("error", "crashed")
    data = {
        "resultData": {
            **({"error": {"message": message, "name": "Error"}, "lastNodeExecuted": "Code"} if bad else {}),
            "runData": {"Webhook": [{"data": {"main": [[item]]}}]},
        },
        "executionData": {
            "nodeExecutionStack": [],
            "runtimeData": {"triggerNode": {"name": "Webhook", "type": "n8n-nodes-base.webhook"}},
        },
    }
    return {
        "id": number,
        "finished": status == "success",
        "mode": "webhook",
        "retryOf": None,
        "retrySuccessId": None,
        "status": status,
        "startedAt": stamp(),
        "stoppedAt": None if status == "running" else stamp(),
        "workflowId": "wf1",
        "waitTill": None,
        "data": data,
        "workflowData": {"id": "wf1", "name": "Echo", "nodes": [webhook]},
        **values,
    }


def stamp(ago: float = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - ago))


def workflow(number: str = "wf1", name: str = "Echo", *, nodes: Any = None, **values: Any) -> dict[str, Any]:
    hook = {"name": "Webhook", "type": "n8n-nodes-base.webhook", "parameters": {"path": "echo", "httpMethod": "POST"}}
    found = [hook] if nodes is None else nodes
    version = {"versionId": "v1", "nodes": found, "connections": {}}
    return {
        "id": number,
        "name": name,
        "active": True,
        "isArchived": False,
        "nodes": found,
        "activeVersion": version,
        **values,
    }


class FakeN8n:
    """Keeps executions and workflows. `retries` is what a retry does: a function of the original, or a status.

    `answer`, where set, is asked first: a status to answer with, or `None`; 0 hangs up.
    """

    def __init__(self) -> None:
        self.executions: dict[str, dict[str, Any]] = {}
        self.workflows: list[dict[str, Any]] = [workflow()]
        self.scopes = set(SCOPES)
        self.retries: str = "success"
        self.retry_wait = 0.0
        self.hang_up_after_retry = False
        self.answer: Callable[[str, str], int | None] = lambda method, path: None
        self.asked: list[tuple[str, str, Any]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, number: str, status: str = "error", **values: Any) -> dict[str, Any]:
        self.executions[number] = execution(number, status, **values)
        return self.executions[number]

    def count(self, method: str, part: str = "") -> int:
        return sum(1 for one, path, _ in self.asked if one == method and part in path)

    def handle(self, method: str, address: str, key: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(address)
        path, query = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            self.asked.append((method, address, body))
        told = self.answer(method, path)
        if told is not None:
            return told, {"message": "as told"}
        if key != KEY:
            return 401, {"message": "Unauthorized"}
        words = path.removeprefix("/api/v1/").split("/")
        match (method, words):
            case "GET", ["executions"]:
                return self._needs("execution:list") or self._page(self._listed(query), query)
            case "GET", ["executions", number]:
                return self._needs("execution:read") or self._one(number, query)
            case "POST", ["executions", number, "retry"]:
                return self._needs("execution:retry") or self._retry(number)
            case "GET", ["workflows"]:
                return self._needs("workflow:list") or self._page(self.workflows, query)
        return 404, {"message": "not found"}

    def _needs(self, scope: str) -> tuple[int, Any] | None:
        return None if scope in self.scopes else (403, {"message": "Forbidden"})

    def _listed(self, query: dict[str, str]) -> list[dict[str, Any]]:
        wanted = query.get("status")
        return [
            {name: value for name, value in one.items() if name not in ("data", "workflowData")}
            for one in sorted(self.executions.values(), key=lambda one: -int(one["id"]))
            if (one["status"] == wanted if wanted else one["status"] != "running")
            and one["workflowId"] == query.get("workflowId", one["workflowId"])
            and one["startedAt"] >= query.get("startedAfter", "")[:19]
        ]

    def _page(self, rows: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, Any]:
        start, limit = int(query.get("cursor") or 0), min(int(query.get("limit", 100)), 250)
        more = start + limit < len(rows)
        return 200, {"data": rows[start : start + limit], "nextCursor": str(start + limit) if more else None}

    def _one(self, number: str, query: dict[str, str]) -> tuple[int, Any]:
        if number not in self.executions:
            return 404, {"message": "Not Found"}
        one = self.executions[number]
        return 200, one if query.get("includeData") == "true" else {k: v for k, v in one.items() if k != "data"}

    def _retry(self, number: str) -> tuple[int, Any]:
        original = self.executions.get(number)
        if original is None:
            return 404, {"message": f'The execution with the ID "{number}" does not exist.'}
        if original["status"] == "success":
            return 409, {"message": "The execution succeeded, so it cannot be retried."}
        with self._lock:
            new = str(max(map(int, self.executions)) + 1)
            made = self.add(new, self.retries, mode="retry", retryOf=number, message="boom again")
        time.sleep(self.retry_wait)
        if self.retries == "success":
            original["retrySuccessId"] = new
        return (0, None) if self.hang_up_after_retry else (200, made)


def _handler(fake: FakeN8n):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET", None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            self._answer("POST", json.loads(body or b"null"))

        def _answer(self, method: str, body: Any) -> None:
            status, document = fake.handle(method, self.path, self.headers.get("X-N8N-API-KEY", ""), body)
            if not status:
                self.close_connection = True
                self.connection.close()
                return
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args) -> None:
            pass

    return Handler
