"""The context of a request: its id, and its place in a distributed trace.

The entry point of a request opens it with `within`; everything that is created or logged meanwhile carries the id. A
caller's own id is used if it is short and has safe characters only; else the request gets a UUID of version 7. A
request with a generated id that makes one delivery gives that id to the delivery, so that the delivery's `request_id`
can stay empty.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

import uuid_utils.compat

HEADER = "X-Request-Id"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
# https://www.w3.org/TR/trace-context/#traceparent-header: version 00; all zeros are not valid.
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class RequestContext:
    """A request: its id, the W3C `traceparent` of its trace (or empty), and the generated id, if it has one."""

    request_id: str
    traceparent: str = ""
    own: UUID | None = None  # the generated id, until a delivery has taken it


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext | None:
    """Return the current request's context, or `None` outside a request."""
    return _current.get()


def take_own_id() -> UUID | None:
    """Return the generated id for a delivery, once; `None` if the caller gave the id, or it was taken already."""
    found = _current.get()
    if found is None:
        return None
    own, found.own = found.own, None
    return own


def return_own_id(own: UUID | None) -> None:
    """Undo `take_own_id` where no delivery was made."""
    found = _current.get()
    if found is not None:
        found.own = own


def request_id() -> str:
    """Return the current request's id; empty outside a request."""
    found = _current.get()
    return found.request_id if found else ""


def stored_ids() -> tuple[str, str]:
    """Return the id and the `traceparent` to store with rows that are made now; empty outside a request."""
    found = _current.get()
    return (found.request_id, found.traceparent) if found else ("", "")


def from_headers(*, given: str | None, traceparent: str | None) -> RequestContext:
    """Return the context for a request's headers `X-Request-Id` and `traceparent`. Invalid values are ignored."""
    trace = traceparent if traceparent and TRACEPARENT.fullmatch(traceparent) else ""
    if given and ID.fullmatch(given):
        return RequestContext(given, trace)
    own = uuid_utils.compat.uuid7()
    return RequestContext(str(own), trace, own)


def use_body_id(given: str) -> None:
    """Use an id from the request's body, if its headers gave none."""
    found = _current.get()
    if found and found.own and ID.fullmatch(given):
        found.request_id, found.own = given, None


@contextmanager
def within(origin: RequestContext) -> Iterator[RequestContext]:
    """Make `origin` the current context for the block, in this thread or task."""
    token = _current.set(origin)
    try:
        yield origin
    finally:
        _current.reset(token)
