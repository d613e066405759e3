"""Every route of the URLconf, with an address for each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
NOBODY = str(UUID(int=1))
PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """`template` is the route with its parameters; `view` is the view's class, if it is one."""

    template: str
    view: Any

    def address(self, **given: Any) -> str:
        """Return an address; what is not given is an id that nothing has."""

        def fill(match: re.Match[str]) -> str:
            kind, name = match.groups()
            return str(given.get(name, NOBODY if kind == "uuid" else "nothing"))

        return "/" + PARAMETER.sub(fill, self.template)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the view's class has a handler for, HEAD with GET."""
        own = tuple(one for one in METHODS if hasattr(self.view, one.lower()) and one not in ("HEAD", "OPTIONS"))
        return (*own, "HEAD") if "GET" in own else own


def routes() -> list[Route]:
    return [Route(template, getattr(view, "view_class", getattr(view, "cls", None))) for template, view in _walk()]


def api_routes() -> list[Route]:
    return [one for one in routes() if one.template.startswith("api/v1/")]


def _walk() -> Iterator[tuple[str, Any]]:
    waiting: list[tuple[str, Any]] = [("", get_resolver())]
    while waiting:
        prefix, one = waiting.pop()
        for inner in one.url_patterns:
            template = prefix + _plain(str(inner.pattern))
            if isinstance(inner, URLResolver):
                waiting.append((template, inner))
            elif isinstance(inner, URLPattern):
                yield template, inner.callback


def _plain(pattern: str) -> str:
    """Write a regular expression of the URLconf as a route."""
    if "(?P" not in pattern and not pattern.startswith("^"):
        return pattern
    named = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", r"<\1>", pattern)
    return named.removeprefix("^").removesuffix("$").removesuffix("?").replace("\\", "").removesuffix("Z")
