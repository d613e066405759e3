"""Runs the WSGI application in a thread, and says what came of it.

The application's answer is closed in the thread that made it, whatever happens: Django gives its database connection
back by that.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .limits import PIECE

# An answer made piece by piece is collected up to this size; beyond it, it is sent while it is made.
COLLECTED = 1024 * 1024
# Their answers have no body, whatever the application gives.
BODILESS = frozenset({204, 304})

Headers = list[tuple[str, str]]
Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is there as a whole."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class File:
    """An answer from a file: `size` bytes from `offset`. Whoever gets it closes `descriptor`."""

    status: int
    headers: Headers
    descriptor: int
    offset: int
    size: int


Answer = Whole | File


class FileWrapper:
    """What WSGI calls `wsgi.file_wrapper`."""

    def __init__(self, filelike: Any, block_size: int = PIECE) -> None:
        self.filelike = filelike
        self.block_size = max(block_size, PIECE)
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.filelike.read(self.block_size):
            yield piece


class _Start:
    """What WSGI calls `start_response`."""

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
            exc_info = None  # a traceback that holds its own frame is a cycle
        self.status = int(status[:3])
        self.headers = headers
        return self.written.append


class Sink(Protocol):
    """Takes answers in the thread that makes them."""

    def send_small(self, answer: Whole) -> bool:
        """Send an answer that needs no waiting; say whether it was sent."""

    def stream(self, status: int, headers: Headers, pieces: Iterator[bytes]) -> None:
        """Send an answer while it is made."""


def run(application: Application, environ: Environ, sink: Sink) -> Answer | None:
    """Answer a request by `sink`, or return what has to be sent from the event loop."""
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
    """Collect all pieces: return `None`; or the first one beyond `COLLECTED`, what came before it included."""
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
    """Yield what is sent, in pieces of a size that is worth its way to the event loop."""
    yield begun
    del begun
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
    """Return a file of the system's with a descriptor of its own; `None` for anything else that can be read."""
    try:
        descriptor = result.filelike.fileno()
        offset = result.filelike.tell()
        size = os.fstat(descriptor).st_size - offset
    except (AttributeError, OSError, ValueError):
        return None
    named = next((value for name, value in start.headers if name.lower() == "content-length"), "")
    wanted = int(named) if named.isdigit() else size
    return File(start.status, start.headers, os.dup(descriptor), offset, min(size, wanted))
