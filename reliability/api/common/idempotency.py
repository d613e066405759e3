"""The header `Idempotency-Key`: a call stores the first answer, recognises a repeat in another way, or refuses the key.

A call without a decorator refuses the header, with 400: if it ignored the key, a repeat would act again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.delivery import idempotency
from reliability.delivery.idempotency import KeyedRequest
from reliability.errors import IdempotencyNotSupported
from reliability.models import IdempotencyKey, digest_of

from .serializers import idempotency_key

HEADER = "Idempotency-Key"
KEY_HEADER = OpenApiParameter(
    HEADER, str, OpenApiParameter.HEADER, description="A repeat with the same key returns the first answer."
)
REPLAYED = {"Idempotent-Replayed": "true"}
_renderer = JSONRenderer()

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(slots=True)
class Claimed:
    """The stored row of a request's idempotency key; without a key there is no row, and nothing is stored."""

    row: IdempotencyKey | None = None
    is_repeat: bool = False

    @property
    def first(self) -> IdempotencyKey | None:
        """The row of the first request with the key, if this request repeats it; else `None`."""
        return self.row if self.is_repeat else None

    def keep(self, *, row_ids: Sequence[UUID] = (), status: int = 200, answer: Any = None) -> None:
        if self.row is not None and not self.is_repeat:
            idempotency.complete(row=self.row, row_ids=row_ids, status=status, answer=answer)


@contextmanager
def claimed(request: Request, **parts: Any) -> Iterator[Claimed]:
    """Claim the request's key, if it has one, in one transaction with the work of the caller.

    `parts` are the URL's parameters. Raises `ValidationError` for an invalid key, and `IdempotencyConflict`.
    """
    given = request.headers.get(HEADER)
    if given is None:
        yield Claimed()
        return
    caller: Any = request.auth
    match: Any = request.resolver_match
    asked = {"parts": {name: str(value) for name, value in parts.items()}, "body": dict(request.data)}
    wanted = KeyedRequest(
        tenant=caller.key.tenant or "",
        operation=match.route,
        key=idempotency_key(given),
        digest=digest_of(asked),
    )
    with transaction.atomic():
        row, is_new = idempotency.claim(request=wanted, now=caller.now)
        yield Claimed(row, is_repeat=not is_new)


def honours_key(handler: Handler) -> Handler:
    """Let a handler act once per key; a repeat returns the stored answer. A dry run does not use up the key.

    The answer is stored unencrypted: it must not hold payloads or secrets.
    """

    @wraps(handler)
    def once(view: Any, request: Request, **parts: Any) -> HttpResponse:
        with claimed(request, **parts) as place:
            if (first := place.first) is not None:
                status = 200 if first.status == 201 else first.status
                return Response(first.answer, status=status, headers=REPLAYED)
            made: Response = handler(view, request, **parts)
            if made.data.get("dry_run") and place.row is not None:
                transaction.set_rollback(True)  # a dry run changes nothing, so its key stays free for the real request
            else:
                place.keep(status=made.status_code, answer=json.loads(_renderer.render(made.data)))
            return made

    return knows_repeats(once)  # type: ignore[return-value]  # it takes and returns what the handler does


def knows_repeats(handler: Handler) -> Handler:
    """Allow the header for a handler that handles the key itself, or whose repeats change nothing."""
    handler.takes_key = True  # type: ignore[attr-defined]  # a mark for `refuse_unsupported`
    return handler


def refuse_unsupported(request: Request, handler: Any) -> None:
    """Raise `IdempotencyNotSupported` if a request has a key and its handler does not use it."""
    if HEADER in request.headers and not getattr(handler, "takes_key", False):
        raise IdempotencyNotSupported
