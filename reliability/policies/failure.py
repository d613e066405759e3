"""Reads n8n's failure reports: the body of its Error Trigger, and executions from its REST API.

The shapes are those of n8n 2.x. Unknown members are kept; long values are cut, so that no report is lost for its size.
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
# Names of headers and fields whose values may be secrets: they are not stored.
SECRET = re.compile(r"authorization|cookie|passw|secret|token|api[-_]?key|signature", re.IGNORECASE)
HIDDEN = "(left out)"
# What an n8n expression evaluates to where it finds nothing: taken as an id, it would make one failure of many.
EMPTY_EXPRESSIONS = frozenset({"undefined", "null", "none", "nan", "[object object]"})
ERROR_NAMES = ("message", "description", "name")
HEADERS = ("x-backstop-delivery", "x-backstop-attempt")


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, where and why. `execution_id` is empty if n8n stores no executions, or a trigger failed."""

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
    """The delivery, and the number of its attempt, whose request started an execution."""

    delivery_id: UUID
    attempt: int | None


def read_body(body: Mapping[str, Any]) -> Failure:
    """Read an Error Trigger's body, of an execution or of a trigger. Unusable values count as missing.

    Raises `InvalidInput` for an empty body.
    """
    if not any(value not in (None, "", [], {}) for value in body.values()):
        needed = "One of 'execution' and 'trigger' is needed."
        raise InvalidInput("It reports no failure.", errors={"execution": [needed]})
    workflow = _object_at(body, "workflow")
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
    crashed = isinstance(error, Mapping) and str(error.get("name")) in CRASHED
    return Failure(
        **names,
        code=ErrorCode.EXECUTION_CRASHED if crashed else ErrorCode.EXECUTION_FAILED,
        message=describe(node, error),
        execution_id=identifier(execution.get("id")),
        execution_url=_link(execution.get("url")),
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
    """Read an id: text, or a number in other versions of n8n. Empty if it is missing or unusable."""
    # Ids that were cut or had characters replaced may be equal for different executions, which would be taken for one.
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value).strip()
    sound = len(text) <= ID_LENGTH and text.isprintable() and REPLACEMENT not in text
    return text if sound and text.casefold() not in EMPTY_EXPRESSIONS else ""


def error_text(value: Any) -> str:
    """Return an error as text: a string itself, an n8n error by its message, any other value as JSON."""
    if isinstance(value, str):
        return _text(value, MESSAGE_LENGTH)
    if isinstance(value, Mapping) and any(isinstance(value.get(name), str) for name in ERROR_NAMES):
        return describe("", value)
    return "" if value is None else _text(_dump(value), MESSAGE_LENGTH)


def describe(node: str, error: Any) -> str:
    """Return an error as "<node>: <message>"; its description or name if it has no message."""
    said = error if isinstance(error, Mapping) else {"message": error}
    found = next((said[name] for name in ERROR_NAMES if isinstance(said.get(name), str) and said[name].strip()), "")
    message = found or "n8n gave no reason."
    return _text(f"{node}: {message}" if node else message, MESSAGE_LENGTH)


def shorten(body: Mapping[str, Any]) -> str:
    """Return a report as JSON text to store: whole, or with long strings cut, or only its known members."""
    # n8n's report repeats the failed request with its headers, so secrets are removed first.
    body = _without_secrets(body)
    text = _dump(body)
    if len(text) > REPORT_LENGTH:
        text = _dump(_cut(body))
    if len(text) > REPORT_LENGTH:
        text = _dump(_known_members(body))
    return text


def origin_of(execution: Mapping[str, Any]) -> Origin | None:
    """Find the delivery in the webhook request's headers, in an execution that n8n returned with its data.

    They are in the output of the trigger node. A running or crashed execution has no output yet: there they are in the
    data of the node that waits to run.
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
    """Return `value` as an attempt's number, or `None` if it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text[:9]) < 1_000_000 else None


def _requests(execution: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    data = _object_at(execution, "data")
    runs = _object_at(data, "resultData", "runData")
    name = _object_at(data, "executionData", "runtimeData", "triggerNode").get("name")
    named = [one.get("name") for one in _list(_object_at(execution, "workflowData").get("nodes")) if _is_webhook(one)]
    for node in [name, *named]:
        for run in _list(runs.get(node))[:1]:
            yield from _headers(run)
    for waiting in _list(_object_at(data, "executionData").get("nodeExecutionStack")):
        if isinstance(waiting, Mapping) and _is_webhook(waiting.get("node")):
            yield from _headers(waiting)


def _headers(run: Any) -> Iterator[Mapping[str, Any]]:
    for output in _list(_object_at(run, "data").get("main")):
        for item in _list(output)[:1]:
            headers = _object_at(item, "json", "headers")
            if headers:
                yield headers


def _is_webhook(node: Any) -> bool:
    return isinstance(node, Mapping) and node.get("type") == "n8n-nodes-base.webhook"


def _object_at(value: Any, *names: str) -> Mapping[str, Any]:
    """Return the object at the path `names`; an empty one if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _link(value: Any) -> str:
    """Read a link; empty unless it is http or https, which a browser may follow safely."""
    return (
        value
        if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) < URL_LENGTH
        else ""
    )


def _node_of(error: Any) -> str:
    return _text(_object_at(error, "node").get("name"), NAME_LENGTH)


def _text(value: Any, length: int) -> str:
    return storable(value[:length]) if isinstance(value, str) else ""


def _dump(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(one, str) and SECRET.search(str(name)) else _without_secrets(one)
            for name, one in value.items()
        }
    return [_without_secrets(one) for one in value] if isinstance(value, list) else value


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= NAME_LENGTH else value[:NAME_LENGTH] + " … (cut here)"
    if isinstance(value, Mapping):
        return {str(name)[:NAME_LENGTH]: _cut(one) for name, one in value.items()}
    return [_cut(one) for one in value] if isinstance(value, list) else value


def _known_members(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the short text values of each known member, and the texts of its error."""
    kept: dict[str, Any] = {}
    for name in KNOWN:
        member = _object_at(body, name)
        kept[name] = _plain(member, ("id", "url", "name", "retryOf", "mode", "lastNodeExecuted"))
        if error := _object_at(member, "error"):
            kept[name]["error"] = _plain(error, ("message", "name", "httpCode"))
    return {name: member for name, member in kept.items() if member}


def _plain(member: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: _cut(member[name]) for name in names if isinstance(member.get(name), str)}
