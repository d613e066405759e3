"""A client of n8n's REST API for executions and workflows. Shapes and answers are those of n8n 2.x.

The key is sent as `X-N8N-API-KEY` and never logged. Calls need these scopes of the key: `execution:read`,
`execution:list`, `execution:retry` and `workflow:list`. On 403, the error names the one that is missing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from django.conf import settings
from django.utils.dateparse import parse_datetime

from reliability.core import known_secrets
from reliability.errors import BackstopError
from reliability.formats.storable import storable, storable_json
from reliability.policies.classification import Failure, Reply
from reliability.transport import client as transport
from reliability.transport.client import Names
from reliability.transport.repeated_reads import repeated

# Seconds.
TIMEOUT = 20.0
# n8n answers a retry only when the retried execution has ended.
RETRY_TIMEOUT = 90.0
PAGE_SIZE = 100
# Ends the loop if n8n returned the same cursor again and again.
MAX_PAGES = 1000
# Failures that prove that n8n did not start the requested work.
NOT_STARTED = (
    Failure.LOCAL_FAULT,
    Failure.DNS_FAILURE,
    Failure.CONNECTION_REFUSED,
    Failure.CONNECT_TIMEOUT,
    Failure.CONNECTION_RESET,
    Failure.TLS_HANDSHAKE_TIMEOUT,
    Failure.TLS_ERROR,
    Failure.SEND_INTERRUPTED,
)
# n8n's REST API never answers with these: they come from a proxy, or from another server at a wrong address.
NOT_N8N = (405, 407, 421, 451)


class N8nError(BackstopError):
    """A request to n8n's REST API failed."""

    status = 502
    code = "n8n_api"


class NotConfigured(N8nError):
    """N8N_API_KEY is not set, so n8n's REST API cannot be asked."""

    status = 409
    code = "n8n_api_not_configured"


class Unauthorised(N8nError):
    """n8n refused N8N_API_KEY."""

    code = "n8n_api_unauthorised"


class UnknownToN8n(N8nError):
    """n8n does not have it (any more)."""

    code = "n8n_api_not_found"


class RequestRefused(N8nError):
    """n8n refused the request."""

    code = "n8n_api_refused"


class Unavailable(N8nError):
    """n8n's REST API cannot be reached. `begun`: n8n may have started the work; `passes`: a retry may succeed."""

    code = "n8n_api_unavailable"

    def __init__(self, detail: str = "", *, begun: bool = False, passes: bool = True) -> None:
        super().__init__(detail)
        self.begun, self.passes = begun, passes


@dataclass(frozen=True, slots=True)
class N8nExecution:
    """An execution in n8n. `document` is n8n's whole answer; it has execution data only if that was requested."""

    id: str
    status: str
    workflow_id: str
    mode: str = ""
    retry_of: str = ""
    retry_success_id: str = ""
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def error(self) -> Any:
        return _mapping(_mapping(_mapping(self.document.get("data")).get("resultData")).get("error"))

    @property
    def node(self) -> str:
        found = _mapping(_mapping(self.document.get("data")).get("resultData")).get("lastNodeExecuted")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class N8nWorkflow:
    """A workflow in n8n; `nodes` are those of the published version, if there is one."""

    id: str
    name: str
    active: bool
    archived: bool
    nodes: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


def is_configured() -> bool:
    return bool(settings.N8N_API_KEY)


def api_url() -> str:
    """Return the API's URL: `N8N_API_URL`, with or without `/api/v1`, or one derived from `N8N_WEBHOOK_URL`."""
    address: str = settings.N8N_API_URL
    if not address:
        parts = urlsplit(settings.N8N_WEBHOOK_URL)
        address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/webhook')}"
    return f"{address.rstrip('/').removesuffix('/api/v1')}/api/v1"


def execution(*, execution_id: str, with_data: bool = False) -> N8nExecution:
    """Return an execution. Raises `N8nError`: `UnknownToN8n` if n8n did not save it."""
    query = {"includeData": "true"} if with_data else {}
    return _execution(_request("GET", f"executions/{quote(execution_id, safe='')}", query, scope="execution:read"))


def executions(
    *, status: str = "", workflow_id: str = "", started_after: datetime | None = None, with_data: bool = False
) -> Iterator[N8nExecution]:
    """Yield executions, newest first; n8n leaves running ones out unless `status` names them. Raises `N8nError`."""
    query = {"status": status, "workflowId": workflow_id, "includeData": "true" if with_data else ""}
    if started_after is not None:
        query["startedAfter"] = started_after.isoformat()
    for one in _pages("executions", query, scope="execution:list"):
        yield _execution(one)


def retry_execution(*, execution_id: str, load_workflow: bool) -> N8nExecution:
    """Have n8n continue an execution from its failed node; return the new execution when it has ended.

    n8n does not prevent a second retry of the same execution: the caller has to. After `Unavailable` with `begun`, the
    retry may have run.
    """
    path = f"executions/{quote(execution_id, safe='')}/retry"
    document = _request(
        "POST", path, {}, scope="execution:retry", body={"loadWorkflow": load_workflow}, timeout=RETRY_TIMEOUT
    )
    return _execution(document)


def workflows() -> Iterator[N8nWorkflow]:
    """Yield n8n's workflows. Raises `N8nError`."""
    for one in _pages("workflows", {"excludePinnedData": "true"}, scope="workflow:list"):
        yield _workflow(one)


def _pages(path: str, query: Mapping[str, str], *, scope: str) -> Iterator[Mapping[str, Any]]:
    """Yield the items of all pages. n8n's cursor does not contain the filters, so each request repeats them."""
    cursor = ""
    for _ in range(MAX_PAGES):
        page = _request("GET", path, {**query, "limit": str(PAGE_SIZE), "cursor": cursor}, scope=scope)
        yield from (one for one in page.get("data") or () if isinstance(one, Mapping))
        cursor = page.get("nextCursor") or ""
        if not cursor:
            return


def _request(  # one request
    method: str,
    path: str,
    query: Mapping[str, str],
    *,
    scope: str,
    body: Any = None,
    timeout: float = TIMEOUT,
) -> Mapping[str, Any]:
    """Send a request. A GET is repeated after a temporary failure; `timeout` (seconds) covers all tries.

    A POST is never repeated: n8n may have acted on it.
    """
    if not is_configured():
        raise NotConfigured
    given = {name: value for name, value in query.items() if value}
    url = f"{api_url()}/{path}" + (f"?{urlencode(given)}" if given else "")
    names = Names("N8N_API_URL" if settings.N8N_API_URL else "N8N_WEBHOOK_URL", "N8N_API_KEY")

    def once(seconds: float) -> Mapping[str, Any]:
        headers = {"X-N8N-API-KEY": settings.N8N_API_KEY}
        answer = transport.call(method=method, url=url, headers=headers, timeout=seconds, document=body, names=names)
        # A fault in the configuration: a repeat would fail the same way.
        if answer.failure is Failure.LOCAL_FAULT:
            raise Unavailable(f"n8n's REST API cannot be asked: {answer.detail}", passes=False)
        if answer.reply is None:
            begun = answer.failure not in NOT_STARTED
            raise Unavailable(f"n8n's REST API did not answer: {answer.failure} ({answer.detail}).", begun=begun)
        return _read(answer.reply, scope)

    if method != "GET":
        return once(timeout)
    return repeated(once, on=Unavailable, seconds=timeout, is_transient=lambda error: getattr(error, "passes", False))


def _read(reply: Reply, scope: str) -> Mapping[str, Any]:
    """Return the answer's JSON object, or raise the matching `N8nError`.

    n8n's own answers are JSON. Anything else comes from a proxy, or from an n8n that has not mounted its routes yet: it
    says nothing about the execution, so that it is never treated as "not found" or "refused".
    """
    document = _document(reply)
    if document is None and reply.status < 500:
        starting = reply.body.lstrip(' \t\r\n"').lower().startswith("n8n is starting up")
        # A 2xx from a proxy may hide that n8n did what was requested. n8n's own page while it starts does not.
        text = f"n8n's REST API did not answer with JSON ({reply.status}): is N8N_API_URL right?"
        raise Unavailable(text, begun=200 <= reply.status < 300 and not starting, passes=starting)
    match reply.status:
        case 401:
            raise Unauthorised("n8n refused N8N_API_KEY (401).")
        case 403:
            raise Unauthorised(f"N8N_API_KEY lacks the scope {scope} (403).")
        case 404:
            raise UnknownToN8n(f"n8n does not have it (any more): {_message(reply)}")
        # n8n may have failed after it began: only a status below 500 says that it did not.
        case status if status in (408, 425, 429) or status >= 500:
            raise Unavailable(f"n8n's REST API answered {status}: {_message(reply)}", begun=status >= 500)
        case status if status < 200 or 300 <= status < 400 or status in NOT_N8N:
            raise Unavailable(f"n8n's REST API answered {status}: is N8N_API_URL right?", passes=False)
        case status if status >= 400:
            raise RequestRefused(f"n8n's REST API answered {status}: {_message(reply)}")
    return document or {}


def _document(reply: Reply) -> Mapping[str, Any] | None:
    """Return the body if it is a JSON object, else `None`."""
    try:
        document = storable_json(json.loads(reply.body), text=reply.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, Mapping) else None


def _message(reply: Reply) -> str:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return "no reason given"
    message = document.get("message") if isinstance(document, Mapping) else None
    if not isinstance(message, str):
        return "no reason given"
    return storable(known_secrets.redactor().text(message)[:300])


def _execution(document: Mapping[str, Any]) -> N8nExecution:
    return N8nExecution(
        id=_id(document.get("id")),
        status=str(document.get("status") or "unknown"),
        workflow_id=_id(document.get("workflowId")),
        mode=str(document.get("mode") or ""),
        retry_of=_id(document.get("retryOf")),
        retry_success_id=_id(document.get("retrySuccessId")),
        started_at=_timestamp(document.get("startedAt")),
        stopped_at=_timestamp(document.get("stoppedAt")),
        document=document,
    )


def _workflow(document: Mapping[str, Any]) -> N8nWorkflow:
    published = _mapping(document.get("activeVersion"))
    nodes = published.get("nodes") or document.get("nodes") or ()
    return N8nWorkflow(
        id=_id(document.get("id")),
        name=str(document.get("name") or ""),
        active=bool(document.get("active")),
        archived=bool(document.get("isArchived")),
        nodes=tuple(one for one in nodes if isinstance(one, Mapping)),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _id(value: Any) -> str:
    # n8n's ids are strings or numbers, depending on version and table. A bool is an int for Python.
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _timestamp(value: Any) -> datetime | None:
    try:
        return parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None
