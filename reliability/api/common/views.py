"""The base class of the API's views, and helpers that they share."""

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
from .serializers import ProblemSerializer, ReasonRequest, Strict

PROBLEMS = dict.fromkeys((400, 401, 403, 503), ProblemSerializer)


class View(APIView):
    """A view that needs an API key; `scopes` names the scope of each method, and HEAD has that of GET.

    A method without a scope returns 405, and a class with a handler without a scope cannot be defined. OPTIONS is not
    supported: the OpenAPI document has the same information. A view with `notes_use` records the key's last use itself.
    """

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    scopes: dict[str, str] = {}
    notes_use = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises `TypeError` for a handler without a scope: any key could call it."""
        super().__init_subclass__(**options)
        for name in cls.http_method_names:
            if name != "head" and hasattr(cls, name) and name.upper() not in cls.scopes:
                raise TypeError(f"{cls.__name__}.scopes has no scope for {name.upper()}. Add one.")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, and refuse an encoded body or an idempotency key that the handler would ignore."""
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS:
            refuse_encoded(request.META)
            idempotency.refuse_unsupported(request, getattr(self, str(request.method).lower(), None))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Handle the request, then release it (see `release`)."""
        response = super().dispatch(request, *args, **kwargs)
        if isinstance(response, Response):
            response.render()
            vars(response).pop("renderer_context", None)
        self.request.parser_context = {}
        self.release()
        return response

    def release(self) -> None:
        """Drop the references to the request and the response, and the `head` that Django sets on the view.

        View, request and response reference each other. In such a cycle, the memory of a large request would stay in
        use until the garbage collector runs, together with that of the next ones.
        """
        vars(self).clear()


def caller_of(request: Request) -> Caller:
    """Return the caller."""
    found: Caller = request.auth  # type: ignore[assignment]  # the framework does not know our authentication
    return found


def of_all_tenants(request: Request, action: str) -> Caller:
    """Return the caller. Raises `Forbidden` for a key that is limited to a tenant; `action` completes the message."""
    caller = caller_of(request)
    if caller.key.tenant:
        raise Forbidden(f"This API key is limited to one tenant and cannot {action}. Use a key for all tenants.")
    return caller


def read(request: Request, kind: type[Strict]) -> dict[str, Any]:
    """Validate the body with a serializer. Raises `ValidationError`."""
    return values_of(request.data, kind)


def values_of(document: Any, kind: type[Strict]) -> dict[str, Any]:
    """Validate a parsed body with a serializer. Raises `ValidationError`."""
    values: dict[str, Any] = _reader(kind).run_validation(document)
    return values


def document_of(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the reason for a change, and the document without it; the domain package validates the document."""
    body = dict(request.data)
    given = {"reason": body.pop("reason")} if "reason" in body else {}
    return str(_reader(ReasonRequest).run_validation(given).get("reason", "")), body


@cache
def _reader(kind: type[Strict]) -> Strict:
    """Return the shared instance of a serializer: validation stores nothing in it, and creating one is slow."""
    return kind()


def text_of(request: Request, name: str) -> str:
    """Return the original text of a member of the body."""
    body: Any = request.data
    text: str = body.members[name]
    return text
