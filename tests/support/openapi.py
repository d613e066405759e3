"""Holds real responses of the API against its OpenAPI document."""

import json
import re
from functools import cache
from typing import Any

from django.test import Client
from django.urls import Resolver404
from jsonschema import Draft202012Validator, FormatChecker

PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
# Not the calls' own: a method that a path does not have, and a fault on our side.
ANYWHERE = (405, 500)


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Client().get("/api/schema/").content)
    return found


@cache
def _validator(path: str, method: str, status: str, media_type: str) -> Draft202012Validator:
    content = document()["paths"][path][method]["responses"][status]["content"]
    schema = {**content[media_type]["schema"], "components": document()["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def check(response: Any) -> None:
    """Assert that a response has a status, a content type and a body that the document declares."""
    try:
        route = response.resolver_match.route
    except Resolver404:
        return
    method = response.request["REQUEST_METHOD"].lower()
    if not route.startswith("api/v1/") or response.status_code in ANYWHERE or method == "head":
        return
    path = "/" + PARAMETER.sub(r"{\1}", route)
    call = document()["paths"][path].get(method)
    if call is None and response.status_code == 401:
        return  # a method that the path does not have, before anybody is let in
    assert call is not None, f"{method} {path} is not declared"
    status = str(response.status_code)
    declared = call["responses"].get(status)
    assert declared is not None, f"{method} {path}: {status} is not declared: {response.content!r}"
    if response.status_code == 204:
        assert not response.content
        return
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert list(declared["content"]) == [media_type], f"{method} {path}: {status} is {media_type}"
    errors = list(_validator(path, method, status, media_type).iter_errors(json.loads(response.content)))
    assert not errors, f"{method} {path}: {status}: {errors[0].message} at {errors[0].json_path}"
