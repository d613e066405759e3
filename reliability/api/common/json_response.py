"""JSON responses without Django REST framework's `Response`, which costs time and memory."""

from collections.abc import Iterable, Mapping

from django.http import HttpResponse
from rest_framework.renderers import JSONRenderer

from .representations import Representation

_renderer = JSONRenderer()


def one(representation: Representation, *, status: int) -> HttpResponse:
    """Return a response with one object."""
    return _response(_renderer.render(representation), status)


def listed(
    name: str, representations: Iterable[Representation], *, status: int, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return an object with the list `name`. Only one item at a time is in memory, besides its JSON."""
    return _response(
        b'{"%b":[%b]}' % (name.encode(), b",".join(map(_renderer.render, representations))), status, headers
    )


def _response(body: bytes, status: int, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(body, status=status, content_type="application/json", headers=headers)
