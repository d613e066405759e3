"""Reads what n8n says of a failure: its Error Trigger's body, and what its REST API keeps of an execution.

The shapes are those of n8n 2.x. Unknown members are left alone; what is long is cut, so that no failure is lost
for being large.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from reliability.errors import InvalidInput
from reliability.formats.storable import REPLACEMENT, storable

from .error_codes import ErrorCode

ID_LENGTH = 200
NAME_LENGTH = 300
URL_LENGTH = 2000
MESSAGE_LENGTH = 10_000
REPORT_LENGTH = 256 * 1024
KNOWN = ("execution", "trigger", "workflow")
CRASHED = frozenset({"WorkflowCrashedError"})
# Names of headers and fields whose values are nobody's business here.
SECRET = re.compile(r"authorization|cookie|passw|secret|token|api[-_]?key|signature", re.IGNORECASE)
HIDDEN = "(left out)"
# What an expression of n8n writes where it finds nothing.
NOTHING = frozenset({"undefined", "null", "none", "nan", "[object object]"})
ERROR_NAMES = ("message", "description", "name")
HEADERS = ("x-backstop-delivery", "x-backstop-attempt")


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, where, and why. `execution_id` is empty where n8n keeps no executions, or a trigger failed."""

    workflow_id: str
    workflow_name: str
    code: str
    message: str
    execution_id: str = ""
    execution_url: str = ""
    retry_of: str = ""
    status: str = "error"
    mode: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """The delivery, and its attempt, whose request an execution began with."""

    delivery_id: UUID
    attempt: int | None


def read_body(body: Mapping[str, Any]) -> Failure:
    """Read an Error Trigger's body, of either shape, as far as it can be read: what is unusable counts as missing.

    Raises `InvalidInput` where there is nothing in it.
    """
    if not any(value not in (None, "", [], {}) for value in body.values()):
        needed = "One of 'execution' and 'trigger' is needed."
        raise InvalidInput("It reports no failure.", errors={"execution": [needed]})
    workflow = _at(body, "workflow")
    named = body.get("workflow")
    names = {
        "workflow_id": identifier(workflow.get("id")),
        "workflow_name": _text(workflow.get("name") or named, NAME_LENGTH),
    }
    if body.get("execution") is None and body.get("trigger") is not None:
        return _of_trigger(body["trigger"], names)
    return _of_execution(body.get("execution"), names)


def _of_execution(said: Any, names: Mapping[str, str]) -> Failure:
    execution = said if isinstance(said, Mapping) else {"error": said}
    error = execution.get("error")
    node = _text(execution.get("lastNodeExecuted"), NAME_LENGTH) or _node_of(error)
    crashed = _name_of(error) in CRASHED
    return Failure(
        **names,
        code=ErrorCode.EXECUTION_CRASHED if crashed else ErrorCode.EXECUTION_FAILED,
        message=describe(node, error),
        execution_id=identifier(execution.get("id")),
        execution_url=_address(execution.get("url")),
        retry_of=identifier(execution.get("retryOf")),
        status="crashed" if crashed else "error",
        mode=_text(execution.get("mode"), NAME_LENGTH),
        node=node,
    )


def _of_trigger(said: Any, names: Mapping[str, str]) -> Failure:
    trigger = said if isinstance(said, Mapping) else {"error": said}
    error = trigger.get("error")
    node = _node_of(error)
    mode = _text(trigger.get("mode"), NAME_LENGTH)
    return Failure(**names, code=ErrorCode.TRIGGER_FAILED, message=describe(node, error), mode=mode, node=node)


def identifier(value: Any) -> str:
    """Read an id, which n8n has as text, and other versions as a number; empty where it is missing or unusable.

    What many ids could have come to be (cut, or with characters replaced), or what an expression writes where it finds
    nothing, is unusable: it would make one failure of many.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value).strip()
    sound = len(text) <= ID_LENGTH and text.isprintable() and REPLACEMENT not in text
    return text if sound and text.casefold() not in NOTHING else ""


def error_text(value: Any) -> str:
    """Return an error as text, whatever it is: a string as it is, n8n's error by its words, another value as JSON."""
    if isinstance(value, str):
        return _text(value, MESSAGE_LENGTH)
    if isinstance(value, Mapping) and any(isinstance(value.get(name), str) for name in ERROR_NAMES):
        return describe("", value)
    return "" if value is None else _text(_dump(value), MESSAGE_LENGTH)


def describe(node: str, error: Any) -> str:
    """Return an error as "<node>: <message>". One without a message has a description or a name."""
    said = error if isinstance(error, Mapping) else {"message": error}
    found = next((said[name] for name in ERROR_NAMES if isinstance(said.get(name), str) and said[name].strip()), "")
    message = found or "n8n gave no reason."
    return _text(f"{node}: {message}" if node else message, MESSAGE_LENGTH)


def shorten(body: Mapping[str, Any]) -> str:
    """Return a report's JSON text for keeping: whole, or its long strings cut, or only its known members.

    n8n repeats the request that failed, with its headers: what authenticated it is left out.
    """
    body = _discreet(body)
    text = _dump(body)
    if len(text) > REPORT_LENGTH:
        text = _dump(_cut(body))
    if len(text) > REPORT_LENGTH:
        text = _dump(_bare(body))
    return text


def origin_of(execution: Mapping[str, Any]) -> Origin | None:
    """Find the delivery in an execution that n8n returned with its data: it is in the webhook's request headers.

    They are in the trigger node's output. An execution that runs or crashed has none yet; there they are with the
    node that waits to run.
    """
    for headers in _requests(execution):
        given = {str(name).lower(): value for name, value in headers.items()}
        delivery, attempt = (given.get(name) for name in HEADERS)
        try:
            return Origin(UUID(str(delivery)), whole(attempt))
        except ValueError:
            continue
    return None


def whole(value: Any) -> int | None:
    """Return an attempt's number, if `value` is one."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text[:9]) < 1_000_000 else None


def _requests(execution: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    data = _at(execution, "data")
    runs = _at(data, "resultData", "runData")
    name = _at(data, "executionData", "runtimeData", "triggerNode").get("name")
    named = [one.get("name") for one in _list(_at(execution, "workflowData").get("nodes")) if _is_webhook(one)]
    for node in [name, *named]:
        for run in _list(runs.get(node))[:1]:
            yield from _headers(run)
    for waiting in _list(_at(data, "executionData").get("nodeExecutionStack")):
        if isinstance(waiting, Mapping) and _is_webhook(waiting.get("node")):
            yield from _headers(waiting)


def _headers(run: Any) -> Iterator[Mapping[str, Any]]:
    for output in _list(_at(run, "data").get("main")):
        for item in _list(output)[:1]:
            headers = _at(item, "json", "headers")
            if headers:
                yield headers


def _is_webhook(node: Any) -> bool:
    return isinstance(node, Mapping) and node.get("type") == "n8n-nodes-base.webhook"


def _at(value: Any, *names: str) -> Mapping[str, Any]:
    """Follow members to an object; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _address(value: Any) -> str:
    """Read a link. Only one that a browser may follow safely is kept."""
    return (
        value
        if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) < URL_LENGTH
        else ""
    )


def _name_of(error: Any) -> str:
    return str(error.get("name")) if isinstance(error, Mapping) else ""


def _node_of(error: Any) -> str:
    return _text(_at(error, "node").get("name"), NAME_LENGTH)


def _text(value: Any, length: int) -> str:
    return storable(value[:length]) if isinstance(value, str) else ""


def _dump(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _discreet(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(one, str) and SECRET.search(str(name)) else _discreet(one)
            for name, one in value.items()
        }
    return [_discreet(one) for one in value] if isinstance(value, list) else value


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= NAME_LENGTH else value[:NAME_LENGTH] + " … (cut here)"
    if isinstance(value, Mapping):
        return {str(name)[:NAME_LENGTH]: _cut(one) for name, one in value.items()}
    return [_cut(one) for one in value] if isinstance(value, list) else value


def _bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of each known member what is plain, and of its error the words."""
    kept: dict[str, Any] = {}
    for name in KNOWN:
        member = _at(body, name)
        kept[name] = _plain(member, ("id", "url", "name", "retryOf", "mode", "lastNodeExecuted"))
        if error := _at(member, "error"):
            kept[name]["error"] = _plain(error, ("message", "name", "httpCode"))
    return {name: member for name, member in kept.items() if member}


def _plain(member: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: _cut(member[name]) for name in names if isinstance(member.get(name), str)}
