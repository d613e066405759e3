"""The API, from its OpenAPI document and its views' scopes."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator

from .tables import any_of, code, table

INTRODUCTION = """\
# API

The same as an OpenAPI 3.1 document is at `/api/schema/`, and as a page to try it at `/api/docs/`. A key goes in
`Authorization: Bearer <key>` or `X-API-Key`; which [scope](permissions.md) a call needs stands with it. Times are ISO
8601 in UTC, ids are UUIDs. Unknown fields are refused. Errors are [problems](errors.md): 400, 401 and 403 may answer
any call, and are not listed. Lists are `{"next", "previous", "results"}`, and `next` is the address of the page
after.

"""
METHODS = ("get", "post", "put", "patch", "delete")
ANY_CALL = {"400", "401", "403"}
Document = dict[str, Any]


def page() -> str:
    """Return the page: every call by resource, then every shape."""
    document = _document()
    scopes = {(method, path): scope for method, path, scope in _scopes()}
    text, last = INTRODUCTION, ""
    for path, method, operation in _operations(document):
        resource = path.split("/")[3]
        if resource != last:
            text, last = text + f"## {resource.replace('-', ' ').capitalize()}\n\n", resource
        text += _call(path, method, operation, scopes.get((method, path), ""), document)
    return text + "## Shapes\n\n" + "".join(_shapes(document))


def by_scope(scopes: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each scope with the calls that it opens."""
    known = sorted((path, method, scope) for method, path, scope in _scopes())
    for wanted in scopes:
        yield wanted, [code(f"{method.upper()} {path}") for path, method, scope in known if scope == wanted]


@cache
def _document() -> Document:
    made: Any = SchemaGenerator  # which has no types
    found: Document = made().get_schema(request=None, public=True)
    return found


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in sorted(document["paths"].items()):
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def _scopes() -> Iterator[tuple[str, str, str]]:
    """Yield method, path and scope of every call."""
    for route, view in _views(get_resolver().url_patterns, ""):
        path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)
        for method, scope in getattr(view, "scopes", {}).items():
            methods = [one for one in METHODS if hasattr(view, one)] if method == "*" else [method.lower()]
            for one in methods:
                yield one, path, scope


def _views(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for one in patterns:
        route = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _views(one.url_patterns, route)
        elif isinstance(one, URLPattern) and hasattr(one.callback, "view_class"):
            yield route, one.callback.view_class


def _call(path: str, method: str, operation: Document, scope: str, document: Document) -> str:
    text = f"### `{method.upper()} {path}`\n\n{operation.get('description', '')}\n"
    text += f"\nScope: {code(scope)}.\n" if scope else ""
    known = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    if known:
        rows = [(code(one["name"]), one["in"], _kind(one["schema"])) for one in known]
        text += "\n" + table(("parameter", "in", "kind"), rows)
    if "requestBody" in operation:
        shape = _body(operation["requestBody"])
        text += f"\nBody: {_kind(shape)}.\n"
    rows = [(status, _answer(one), one.get("description", "")) for status, one in _answers(operation)]
    return text + "\n" + table(("answer", "shape", ""), rows) + "\n"


def _answers(operation: Document) -> list[tuple[str, Document]]:
    return sorted((status, one) for status, one in operation["responses"].items() if status not in ANY_CALL)


def _answer(one: Document) -> str:
    return _kind(_body(one)) if one.get("content") else "nothing"


def _body(one: Document) -> Document:
    found: Document = next(iter(one["content"].values()))["schema"]
    return found


def _shapes(document: Document) -> Iterator[str]:
    for name, shape in sorted(document["components"]["schemas"].items()):
        if "properties" not in shape:
            if "oneOf" in shape or "anyOf" in shape:
                yield f"### {_called(name)} {{#{_anchor(name)}}}\n\n{_kind(shape)}.\n\n"
            continue
        needed = set(shape.get("required", []))
        is_request = name.endswith("Request")
        rows = [
            (code(field), _kind(kind), ("needed" if field in needed else "") if is_request else "", _note(kind))
            for field, kind in shape["properties"].items()
        ]
        text = shape.get("description", "")
        yield f"### {_called(name)} {{#{_anchor(name)}}}\n\n{text}\n\n" + _fields(rows, is_request) + "\n"


def _fields(rows: list[tuple[str, str, str, str]], is_request: bool) -> str:
    if is_request:
        return table(("field", "kind", "", ""), rows)
    return table(("field", "kind", ""), [(field, kind, note) for field, kind, _, note in rows])


def _called(name: str) -> str:
    """Return a shape's name for people: those that are sent are apart from those that are answered."""
    plain = name.removesuffix("Request").removesuffix("Request").removesuffix("Shape")
    return plain + (" (sent)" if name.endswith("Request") else "")


def _anchor(name: str) -> str:
    return "shape-" + name.lower()


def _note(kind: Document) -> str:
    """Return a field's own words, without the list of its choices, which its kind names."""
    lines = [line for line in str(kind.get("description", "")).splitlines() if not line.startswith("* `")]
    default = f" Default: `{kind['default']}`." if kind.get("default") not in (None, "") else ""
    return " ".join(lines).strip() + default


def _kind(schema: Document) -> str:
    """Say what a value is: a shape's name with its link, choices, or a type with its limits."""
    if "$ref" in schema:
        return _reference(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return any_of(str(one) for one in schema["enum"] if one not in (None, ""))
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_kind(one) for one in schema[several])
    if "allOf" in schema:
        return _kind(schema["allOf"][0])
    return _plain(schema)


def _reference(name: str) -> str:
    shape = _document()["components"]["schemas"].get(name, {})
    return _kind(shape) if "enum" in shape else f"[{_called(name)}](#{_anchor(name)})"


def _plain(schema: Document) -> str:
    kind = schema.get("type", "any JSON")
    kinds = list(kind) if isinstance(kind, list) else [kind]
    names = [_type(one, schema) for one in kinds if one != "null"]
    text = " or ".join(names) + (", or null" if "null" in kinds else "")
    if "minimum" in schema or "maximum" in schema:
        text += f", {schema.get('minimum', '')} to {schema.get('maximum', '')}".replace("  ", " ")
    if "maxLength" in schema:
        text += f", up to {schema['maxLength']} characters"
    return text


def _type(kind: str, schema: Document) -> str:
    if kind == "array":
        return "list of " + _kind(schema.get("items", {}))
    if kind == "string" and "format" in schema:
        return {"date-time": "time", "uuid": "id", "uri": "address"}.get(schema["format"], str(schema["format"]))
    if kind == "string" and "pattern" in schema and schema["pattern"].startswith("^[a-z0-9]"):
        return "slug"
    names: dict[str, str] = {
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
        "object": "object",
    }
    return names.get(kind, kind)
