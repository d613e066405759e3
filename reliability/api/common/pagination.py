"""Lists: cursor pagination by id, whose order is the time, and strict filters."""

from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.errors import InvalidInput

from .serializers import Strict

PAGING = {"cursor", "page_size"}


class IdCursor(CursorPagination):
    """Newest first; the position in the cursor is the id of a row."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def decode_cursor(self, request: Request) -> Any:
        """Raises `InvalidInput` for a cursor that this API did not return."""
        encoded = request.query_params.get(self.cursor_query_param)
        if encoded is None:
            return None
        try:
            values = parse_qs(urlsafe_b64decode(encoded.encode()).decode("ascii"))
            for position in values.get("p", []):
                UUID(position)
            if not values or not values.keys() <= {"p", "r"}:
                raise ValueError
            return super().decode_cursor(request)
        except Exception as error:
            raise InvalidInput(
                "The cursor is invalid. Use the address in `next` or `previous` as it is.",
                errors={"cursor": ["Invalid."]},
            ) from error


def filters(request: Request, kind: type[Strict]) -> Strict:
    """Read the filters in the query. Raises `ValidationError` for an unknown or invalid filter.

    Raises `InvalidInput` for a filter that is given twice: only the last would be used.
    """
    if twice := [name for name, given in request.query_params.lists() if len(given) > 1]:
        raise InvalidInput(errors={name: ["Given twice."] for name in twice})
    values = {name: value for name, value in request.query_params.items() if name not in PAGING}
    size = request.query_params.get("page_size", "1")
    if not (size.isascii() and size.isdigit() and 1 <= int(size[:9]) <= IdCursor.max_page_size):
        raise InvalidInput(errors={"page_size": [f"Must be a number from 1 to {IdCursor.max_page_size}."]})
    found = kind(data=values)
    found.is_valid(raise_exception=True)
    return found


def page(request: Request, rows: Any, show: Callable[[Any], Any]) -> Response:
    """Return one page of a query."""
    paginator = IdCursor()
    found = paginator.paginate_queryset(rows, request)
    return paginator.get_paginated_response([show(row) for row in found or []])
