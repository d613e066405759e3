"""The header `Idempotency-Key`: each call honours it, knows a repeat otherwise, or refuses the key.

A call that says nothing refuses it, with 400: a key that is ignored would let a repeat act again.
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
    HEADER, str, OpenApiParameter.HEADER, description="A repeat under the same key gets the first answer."
)
REPLAYED = {"Idempotent-Replayed": "true"}
_renderer = JSONRenderer()

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(slots=True)
class Claimed:
    """A request's place among those that happen once; without a key it has none, and keeps nothing."""

    row: IdempotencyKey | None = None
    is_repeat: bool = False

    @property
    def first(self) -> IdempotencyKey | None:
        """The first request under the key, where this one repeats it."""
        return self.row if self.is_repeat else None

    def keep(self, *, row_ids: Sequence[UUID] = (), status: int = 200, answer: Any = None) -> None:
        if self.row is not None and not self.is_repeat:
            idempotency.complete(row=self.row, row_ids=row_ids, status=status, answer=answer)


@contextmanager
def claimed(request: Request, **parts: Any) -> Iterator[Claimed]:
    """Claim the request's key, if it has one; what is done within belongs to one transaction with that.

    `parts` are the address's own. Raises `ValidationError` for what is no key, and `IdempotencyConflict`.
    """
    given = request.headers.get(HEADER)
    if given is None:
        yield Claimed()
        return
    who: Any = request.auth
    match: Any = request.resolver_match
    asked = {"parts": {name: str(value) for name, value in parts.items()}, "body": dict(request.data)}
    wanted = KeyedRequest(
        tenant=who.key.tenant or "",
        operation=match.route,
        key=idempotency_key(given),
        digest=digest_of(asked),
    )
    with transaction.atomic():
        row, is_new = idempotency.claim(request=wanted, now=who.now)
        yield Claimed(row, is_repeat=not is_new)


def honours_key(handler: Handler) -> Handler:
    """Let a handler act once per key, and a repeat get its first answer; a dry run takes no key.

    The answer is kept as it is: it may hold neither payloads nor secrets.
    """

    @wraps(handler)
    def once(view: Any, request: Request, **parts: Any) -> HttpResponse:
        with claimed(request, **parts) as place:
            if (first := place.first) is not None:
                status = 200 if first.status == 201 else first.status
                return Response(first.answer, status=status, headers=REPLAYED)
            made: Response = handler(view, request, **parts)
            if made.data.get("dry_run") and place.row is not None:
                transaction.set_rollback(True)  # it made nothing, and its key is free for what it was a trial of
            else:
                place.keep(status=made.status_code, answer=json.loads(_renderer.render(made.data)))
            return made

    return knows_repeats(once)  # type: ignore[return-value]  # it takes and returns what the handler does


def knows_repeats(handler: Handler) -> Handler:
    """Let a handler have the header: it honours the key itself, or a repeat changes nothing, by its own id."""
    handler.takes_key = True  # type: ignore[attr-defined]  # a mark for `refuse_unsupported`
    return handler


def refuse_unsupported(request: Request, handler: Any) -> None:
    """Raise `IdempotencyNotSupported` where a request brings a key to a handler that does nothing with it."""
    if HEADER in request.headers and not getattr(handler, "takes_key", False):
        raise IdempotencyNotSupported
