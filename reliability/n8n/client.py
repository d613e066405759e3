"""n8n's own REST API: executions and workflows. Shapes and answers are those of n8n 2.x.

A key is sent as `X-N8N-API-KEY` and never logged. What a call needs is a scope of that key: `execution:read`,
`execution:list`, `execution:retry`, `workflow:list`; a 403 names the one that is missing.
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

TIMEOUT = 20.0
# n8n answers a retry when the retried execution has ended.
RETRY_TIMEOUT = 90.0
PAGE = 100
PAGES = 1000
# The failures in which n8n certainly did not begin what it was asked for.
NOT_BEGUN = (
    Failure.LOCAL_FAULT,
    Failure.DNS_FAILURE,
    Failure.CONNECTION_REFUSED,
    Failure.CONNECT_TIMEOUT,
    Failure.CONNECTION_RESET,
    Failure.TLS_HANDSHAKE_TIMEOUT,
    Failure.TLS_ERROR,
    Failure.SEND_INTERRUPTED,
)
# Statuses about the address or the way to it, which n8n's REST API itself does not give.
NOT_N8N = (405, 407, 421, 451)


class N8nError(BackstopError):
    """n8n's REST API did not do what it was asked for."""

    status = 502
    code = "n8n_api"


class NotConfigured(N8nError):
    """N8N_API_KEY is not set, so n8n's REST API cannot be asked."""

    status = 409
    code = "n8n_api_not_configured"


class Unauthorised(N8nError):
    """n8n refused N8N_API_KEY."""

    code = "n8n_api_unauthorised"


class NotThere(N8nError):
    """n8n does not know it (any more)."""

    code = "n8n_api_not_found"


class Refused(N8nError):
    """n8n refused the request."""

    code = "n8n_api_refused"


class NotReached(N8nError):
    """n8n cannot be asked now. `begun` is false where it certainly did nothing; `passes`: for a moment, perhaps."""

    code = "n8n_api_unavailable"

    def __init__(self, detail: str = "", *, begun: bool = False, passes: bool = True) -> None:
        super().__init__(detail)
        self.begun, self.passes = begun, passes


@dataclass(frozen=True, slots=True)
class N8nExecution:
    """An execution as n8n keeps it; `document` is all that n8n said, with its data only where that was asked for."""

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
        return _object(_object(_object(self.document.get("data")).get("resultData")).get("error"))

    @property
    def node(self) -> str:
        found = _object(_object(self.document.get("data")).get("resultData")).get("lastNodeExecuted")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class N8nWorkflow:
    """A workflow as n8n keeps it; `nodes` are those of the published version, where there is one."""

    id: str
    name: str
    active: bool
    archived: bool
    nodes: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


def is_configured() -> bool:
    return bool(settings.N8N_API_KEY)


def base() -> str:
    """Return the API's address: `N8N_API_URL`, with or without `/api/v1`, else beside `N8N_WEBHOOK_URL`."""
    address: str = settings.N8N_API_URL
    if not address:
        parts = urlsplit(settings.N8N_WEBHOOK_URL)
        address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/webhook')}"
    return f"{address.rstrip('/').removesuffix('/api/v1')}/api/v1"


def execution(*, execution_id: str, with_data: bool = False) -> N8nExecution:
    """Return an execution. Raises an `N8nError`: `NotThere` where n8n did not keep it."""
    query = {"includeData": "true"} if with_data else {}
    return _execution(_ask("GET", f"executions/{quote(execution_id, safe='')}", query, scope="execution:read"))


def executions(
    *, status: str = "", workflow_id: str = "", started_after: datetime | None = None, with_data: bool = False
) -> Iterator[N8nExecution]:
    """Yield executions, newest first. Those that run are left out unless `status` asks for them. Raises `N8nError`."""
    query = {"status": status, "workflowId": workflow_id, "includeData": "true" if with_data else ""}
    if started_after is not None:
        query["startedAfter"] = started_after.isoformat()
    for one in _pages("executions", query, scope="execution:list"):
        yield _execution(one)


def retry(*, execution_id: str, load_workflow: bool) -> N8nExecution:
    """Have n8n run an execution on from its failed node, and return the new one at its end.

    n8n does not keep from doing it twice: the caller has to. `NotReached` with `begun` leaves open whether it ran.
    """
    path = f"executions/{quote(execution_id, safe='')}/retry"
    said = _ask("POST", path, {}, scope="execution:retry", body={"loadWorkflow": load_workflow}, timeout=RETRY_TIMEOUT)
    return _execution(said)


def workflows() -> Iterator[N8nWorkflow]:
    """Yield n8n's workflows. Raises `N8nError`."""
    for one in _pages("workflows", {"excludePinnedData": "true"}, scope="workflow:list"):
        yield _workflow(one)


def _pages(path: str, query: Mapping[str, str], *, scope: str) -> Iterator[Mapping[str, Any]]:
    """A cursor keeps no filters: they are repeated."""
    cursor = ""
    for _ in range(PAGES):
        page = _ask("GET", path, {**query, "limit": str(PAGE), "cursor": cursor}, scope=scope)
        yield from (one for one in page.get("data") or () if isinstance(one, Mapping))
        cursor = page.get("nextCursor") or ""
        if not cursor:
            return


def _ask(  # one request
    method: str,
    path: str,
    query: Mapping[str, str],
    *,
    scope: str,
    body: Any = None,
    timeout: float = TIMEOUT,
) -> Mapping[str, Any]:
    """Ask once; a GET, which changes nothing, again where n8n failed for a moment. `timeout` is for all tries."""
    if not is_configured():
        raise NotConfigured
    given = {name: value for name, value in query.items() if value}
    url = f"{base()}/{path}" + (f"?{urlencode(given)}" if given else "")
    names = Names("N8N_API_URL" if settings.N8N_API_URL else "N8N_WEBHOOK_URL", "N8N_API_KEY")

    def once(seconds: float) -> Mapping[str, Any]:
        headers = {"X-N8N-API-KEY": settings.N8N_API_KEY}
        answer = transport.call(method=method, url=url, headers=headers, timeout=seconds, document=body, names=names)
        if answer.failure is Failure.LOCAL_FAULT:
            raise NotReached(f"n8n's REST API cannot be asked: {answer.detail}", passes=False)
        if answer.reply is None:
            begun = answer.failure not in NOT_BEGUN
            raise NotReached(f"n8n's REST API did not answer: {answer.failure} ({answer.detail}).", begun=begun)
        return _read(answer.reply, scope)

    if method != "GET":
        return once(timeout)
    return repeated(once, on=NotReached, seconds=timeout, is_transient=lambda error: getattr(error, "passes", False))


def _read(reply: Reply, scope: str) -> Mapping[str, Any]:
    """Return an answer's object, or raise what it means.

    n8n's own answers are JSON. Anything else comes from a proxy, or from an n8n that has not mounted its routes: it
    says nothing about what was asked for, and is asked again.
    """
    document = _document(reply)
    if document is None and reply.status < 500:
        starting = reply.body.lstrip(' \t\r\n"').lower().startswith("n8n is starting up")
        text = f"n8n's REST API did not answer with JSON ({reply.status}): is N8N_API_URL right?"
        raise NotReached(text, begun=200 <= reply.status < 300 and not starting, passes=starting)
    match reply.status:
        case 401:
            raise Unauthorised("n8n refused N8N_API_KEY (401).")
        case 403:
            raise Unauthorised(f"N8N_API_KEY lacks the scope {scope} (403).")
        case 404:
            raise NotThere(f"n8n does not know it (any more): {_said(reply)}")
        case status if status in (408, 425, 429) or status >= 500:
            raise NotReached(f"n8n's REST API answered {status}: {_said(reply)}", begun=status >= 500)
        case status if status < 200 or 300 <= status < 400 or status in NOT_N8N:
            raise NotReached(f"n8n's REST API answered {status}: is N8N_API_URL right?", passes=False)
        case status if status >= 400:
            raise Refused(f"n8n's REST API answered {status}: {_said(reply)}")
    return document or {}


def _document(reply: Reply) -> Mapping[str, Any] | None:
    """Return the body where it is a JSON object, else `None`."""
    try:
        document = storable_json(json.loads(reply.body), text=reply.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, Mapping) else None


def _said(reply: Reply) -> str:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return "no reason given"
    message = document.get("message") if isinstance(document, Mapping) else None
    if not isinstance(message, str):
        return "no reason given"
    return storable(known_secrets.redactor().text(message)[:300])


def _execution(said: Mapping[str, Any]) -> N8nExecution:
    return N8nExecution(
        id=_id(said.get("id")),
        status=str(said.get("status") or "unknown"),
        workflow_id=_id(said.get("workflowId")),
        mode=str(said.get("mode") or ""),
        retry_of=_id(said.get("retryOf")),
        retry_success_id=_id(said.get("retrySuccessId")),
        started_at=_moment(said.get("startedAt")),
        stopped_at=_moment(said.get("stoppedAt")),
        document=said,
    )


def _workflow(said: Mapping[str, Any]) -> N8nWorkflow:
    published = _object(said.get("activeVersion"))
    nodes = published.get("nodes") or said.get("nodes") or ()
    return N8nWorkflow(
        id=_id(said.get("id")),
        name=str(said.get("name") or ""),
        active=bool(said.get("active")),
        archived=bool(said.get("isArchived")),
        nodes=tuple(one for one in nodes if isinstance(one, Mapping)),
    )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _id(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _moment(value: Any) -> datetime | None:
    try:
        return parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None
