"""Where work comes from: the id of the request that asked for it, and its place in a trace.

Whoever takes a request in says so by `within`; whatever is made or logged meanwhile carries it. An id of the
caller's own counts if it is short and harmless; else the request gets one of ours, a UUID of version 7. A request of
ours that makes one delivery lends that delivery its id, so that nothing more has to be kept to find one by the other.
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
    """A request: its id, whether the caller gave that, and the trace it belongs to, if any."""

    request_id: str
    traceparent: str = ""
    own: UUID | None = None  # our own id, until a delivery has taken it


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext | None:
    """Return the request that is being answered, if one is."""
    return _current.get()


def take_own_id() -> UUID | None:
    """Return the request's own id for a delivery, once; `None` where it is the caller's, or was taken."""
    found = _current.get()
    if found is None:
        return None
    own, found.own = found.own, None
    return own


def return_own_id(own: UUID | None) -> None:
    """Undo `take`, where no delivery was made."""
    found = _current.get()
    if found is not None:
        found.own = own


def request_id() -> str:
    """Return the id of what is being worked on; empty where there is none."""
    found = _current.get()
    return found.request_id if found else ""


def stored_ids() -> tuple[str, str]:
    """Return the id and the trace that are written down with what is made now; empty where there is none."""
    found = _current.get()
    return (found.request_id, found.traceparent) if found else ("", "")


def from_headers(*, given: str | None, traceparent: str | None) -> RequestContext:
    """Return the origin that a request's headers name; what they hold is checked."""
    trace = traceparent if traceparent and TRACEPARENT.fullmatch(traceparent) else ""
    if given and ID.fullmatch(given):
        return RequestContext(given, trace)
    own = uuid_utils.compat.uuid7()
    return RequestContext(str(own), trace, own)


def use_body_id(given: str) -> None:
    """Let the request be known by the id that its body names, where its headers named none."""
    found = _current.get()
    if found and found.own and ID.fullmatch(given):
        found.request_id, found.own = given, None


@contextmanager
def within(origin: RequestContext) -> Iterator[RequestContext]:
    """Let what happens meanwhile, in this thread, come from `origin`."""
    token = _current.set(origin)
    try:
        yield origin
    finally:
        _current.reset(token)
