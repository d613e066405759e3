"""Runs the WSGI application in a thread, and returns its answer.

The application's iterable is closed in the thread that made it, in any case: Django releases its database connection by
that.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .limits import PIECE

# Bytes. An answer in pieces is collected up to this size; a larger one is sent while it is made.
COLLECTED = 1024 * 1024
# Statuses without a body (RFC 9110, 6.4.1), whatever the application returns.
BODILESS = frozenset({204, 304})

Headers = list[tuple[str, str]]
Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete answer."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class File:
    """An answer from a file: `size` bytes from `offset`. The receiver has to close `descriptor`."""

    status: int
    headers: Headers
    descriptor: int
    offset: int
    size: int


Answer = Whole | File


class FileWrapper:
    """The `wsgi.file_wrapper` (PEP 3333)."""

    def __init__(self, filelike: Any, block_size: int = PIECE) -> None:
        self.filelike = filelike
        self.block_size = max(block_size, PIECE)
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.filelike.read(self.block_size):
            yield piece


class _Start:
    """The `start_response` callable (PEP 3333)."""

    __slots__ = ("headers", "sent", "status", "written")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.written: list[bytes] = []
        self.sent = False

    def __call__(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        try:
            if exc_info and self.sent:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None  # breaks the reference cycle of a traceback and its frame (PEP 3333)
        self.status = int(status[:3])
        self.headers = headers
        return self.written.append


class Sink(Protocol):
    """Receives answers in the thread that makes them."""

    def send_small(self, answer: Whole) -> bool:
        """Send an answer that needs no waiting; return whether it was sent."""

    def stream(self, status: int, headers: Headers, pieces: Iterator[bytes]) -> None:
        """Send an answer while it is made."""


def run(application: Application, environ: Environ, sink: Sink) -> Answer | None:
    """Run the application. Answers through `sink`, or returns what has to be sent from the event loop."""
    start = _Start()
    result = application(environ, start)
    try:
        if isinstance(result, FileWrapper) and (found := _file(result, start)) is not None:
            return found
        pieces = iter(result)
        begun = _collect(pieces, start)
        if not start.status:
            raise RuntimeError("The application gave an answer without a status.")
        bodiless = environ["REQUEST_METHOD"] == "HEAD" or start.status in BODILESS
        if begun is None or bodiless:
            answer = Whole(start.status, start.headers, b"" if bodiless else b"".join(start.written))
            return None if sink.send_small(answer) else answer
        start.sent = True
        sink.stream(start.status, start.headers, _rest(begun, pieces, start))
        return None
    finally:
        if hasattr(result, "close"):
            result.close()


def _collect(pieces: Iterator[bytes], start: _Start) -> bytes | None:
    """Collect the pieces. Return `None` if that is all, or everything so far once it exceeds `COLLECTED`."""
    size = 0
    for piece in pieces:
        start.written.append(piece)
        size += len(piece)
        if size > COLLECTED:
            whole = b"".join(start.written)
            start.written.clear()
            return whole
    return None


def _rest(begun: bytes, pieces: Iterator[bytes], start: _Start) -> Iterator[bytes]:
    """Yield the rest, in pieces large enough to be worth the way to the event loop."""
    yield begun
    del begun  # up to `COLLECTED` bytes and a piece, not needed while the rest is sent
    size = 0
    for piece in pieces:
        start.written.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(start.written)
            start.written.clear()
            size = 0
    if start.written:
        yield b"".join(start.written)


def _file(result: FileWrapper, start: _Start) -> File | None:
    """Return the file with a descriptor of its own; `None` for anything that is not a file of the system."""
    # Duplicated, since closing the application's answer closes its own descriptor before the file is sent.
    try:
        descriptor = result.filelike.fileno()
        offset = result.filelike.tell()
        size = os.fstat(descriptor).st_size - offset
    except (AttributeError, OSError, ValueError):
        return None
    named = next((value for name, value in start.headers if name.lower() == "content-length"), "")
    wanted = int(named) if named.isdigit() else size
    return File(start.status, start.headers, os.dup(descriptor), offset, min(size, wanted))
