"""What the views have in common."""

from functools import cache
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from reliability.errors import Forbidden

from . import idempotency
from .addresses import refuse_encoded
from .authentication import Caller
from .serializers import ProblemShape, ReasonRequest, Strict

PROBLEMS = dict.fromkeys((400, 401, 403, 503), ProblemShape)


class View(APIView):
    """A view for callers with a key; `scopes` names the scope that each method needs, HEAD's with GET.

    A method without a scope is answered 405, and a view whose handler has none cannot be defined. OPTIONS is not
    offered: its answer would tell of a view what the OpenAPI document tells anyway. A view that `notes_use` sees to
    it by itself that the key's last use is kept.
    """

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    scopes: dict[str, str] = {}
    notes_use = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises `TypeError` where a handler's method has no scope: whoever calls it would need none."""
        super().__init_subclass__(**options)
        for name in cls.http_method_names:
            if name != "head" and hasattr(cls, name) and name.upper() not in cls.scopes:
                raise TypeError(f"{cls.__name__} names no scope for {name.upper()}.")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let a caller in, and refuse a packed body, and an idempotency key that the call would ignore."""
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS:
            refuse_encoded(request.META)
            idempotency.refuse_unsupported(request, getattr(self, str(request.method).lower(), None))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, and keep nothing of it."""
        response = super().dispatch(request, *args, **kwargs)
        if isinstance(response, Response):
            response.render()
            vars(response).pop("renderer_context", None)
        self.request.parser_context = {}
        self.release()
        return response

    def release(self) -> None:
        """Forget the request, its answer, and the `head` that Django ties to the view itself.

        View, request and response hold each other. Left so, all that a large request read and answered would stay
        until a late round of the garbage collector, together with what the next ones do.
        """
        vars(self).clear()


def caller(request: Request) -> Caller:
    """Return who calls."""
    found: Caller = request.auth  # type: ignore[assignment]  # the framework does not know our authentication
    return found


def of_all_tenants(request: Request, what: str) -> Caller:
    """Return who calls. Raises `Forbidden` for a tenant's key, which cannot do `what` concerns all tenants."""
    who = caller(request)
    if who.key.tenant:
        raise Forbidden(f"A tenant's key cannot {what}.")
    return who


def read(request: Request, kind: type[Strict]) -> dict[str, Any]:
    """Read the body by a serializer. Raises `ValidationError`."""
    return values_of(request.data, kind)


def values_of(document: Any, kind: type[Strict]) -> dict[str, Any]:
    """Read a body's document by a serializer. Raises `ValidationError`."""
    values: dict[str, Any] = _reader(kind).run_validation(document)
    return values


def document_of(request: Request) -> tuple[str, dict[str, Any]]:
    """Return why a document is written, and the document; what it has to be, its own reader says."""
    body = dict(request.data)
    given = {"reason": body.pop("reason")} if "reason" in body else {}
    return str(_reader(ReasonRequest).run_validation(given).get("reason", "")), body


@cache
def _reader(kind: type[Strict]) -> Strict:
    """Return the one instance that reads: it keeps nothing of what it read, and building one takes time."""
    return kind()


def text_of(request: Request, name: str) -> str:
    """Return the sender's own text of a member of the body."""
    body: Any = request.data
    text: str = body.members[name]
    return text
