"""Answers that are written as JSON without the framework's response around them."""

from collections.abc import Iterable, Mapping

from django.http import HttpResponse
from rest_framework.renderers import JSONRenderer

from .shapes import Shape

_renderer = JSONRenderer()


def one(shape: Shape, *, status: int) -> HttpResponse:
    """Answer with one shape."""
    return _answer(_renderer.render(shape), status)


def listed(
    name: str, shapes: Iterable[Shape], *, status: int, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Answer with an object that holds a list, `name`. Of its shapes, only one at a time is in memory."""
    return _answer(b'{"%b":[%b]}' % (name.encode(), b",".join(map(_renderer.render, shapes))), status, headers)


def _answer(body: bytes, status: int, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(body, status=status, content_type="application/json", headers=headers)
