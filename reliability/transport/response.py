"""Reads an HTTP/1.1 response strictly, and decides whether its connection may carry another request (RFC 9112).

`http.client` takes 102 and 103 for the final response, fails at more than 100 headers, and accepts framing that leaves
the end of the body uncertain. Here interim responses are skipped, headers beyond the limit are left unread (the status
is a result already), and a connection is closed whenever anything about the framing is in doubt.
"""

import http.client
import io
import re
from typing import Any

from . import exchange as exchanges
from .exchange import Exchange

# A server that sends interim responses without end must not keep us until the deadline.
INTERIM_LIMIT = 50
HEADER_LIMIT = 1000
LINE_LIMIT = 64 * 1024
HEADERS_LIMIT = 256 * 1024
SWITCHING = 101
EMPTY = (204, 304)

_STATUS = re.compile(rb"HTTP/1\.(\d) +([1-9]\d\d)(?: ([^\r\n]*))?\r?\n")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


class Reader(io.RawIOBase):
    """The bytes of a socket. Each read raises `TimeoutError` at the exchange's deadline."""

    def __init__(self, raw: Any, sock: Any, exchange: Exchange) -> None:
        super().__init__()
        self._raw, self._sock, self._exchange = raw, sock, exchange
        self._is_done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        exchange = self._exchange
        if self._is_done:
            return 0
        # Bytes that arrived while the request was still being written come first.
        if exchange.early_data:
            taken = exchange.early_data[: len(buffer)]
            buffer[: len(taken)] = taken
            exchange.early_data = exchange.early_data[len(taken) :]
            exchange.received = True
            return len(taken)
        self._sock.settimeout(exchange.remaining())
        found: int | None = self._raw.readinto(buffer)
        if found:
            exchange.received = True
        else:
            exchange.record_close(self._sock)
        return found

    def finish(self) -> None:
        """Read nothing more from the socket."""
        self._is_done = True

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Source:
    """A socket as `http.client` uses it for a response: only `makefile` is called."""

    def __init__(self, sock: Any, exchange: Exchange) -> None:
        self._sock, self._exchange = sock, exchange

    def makefile(self, _mode: str) -> io.BufferedReader:
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(Reader(raw, self._sock, self._exchange))


class Response(http.client.HTTPResponse):
    """The response of the current exchange."""

    fp: Any

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        self._exchange = exchanges.current()
        self._is_sound = True
        self._has_ended = False
        self._too_many_headers = False
        super().__init__(_Source(sock, self._exchange), *arguments, **options)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Read the head of the final response. Raises `HTTPException` or `OSError` if none comes."""
        for _ in range(INTERIM_LIMIT):
            self._read_status_line()
            self._read_headers()
            if not 100 <= self.status < 200:
                break
            if self.status == SWITCHING:
                raise http.client.UnknownProtocol("The answer switches to a protocol that was not asked for.")
            if self._too_many_headers:
                raise http.client.UnknownProtocol("The headers of an interim answer are too long.")
        else:
            raise http.client.UnknownProtocol(f"More than {INTERIM_LIMIT} interim answers.")
        self._set_framing()

    def _read_status_line(self) -> None:
        line = self.fp.readline(LINE_LIMIT + 1)
        if not line:
            raise http.client.RemoteDisconnected("closed without an answer")
        found = _STATUS.fullmatch(line)
        if found is None:
            raise http.client.BadStatusLine("not an answer of HTTP/1.1")
        self.version = 10 if found[1] == b"0" else 11
        self.code = self.status = int(found[2])
        self.reason = (found[3] or b"").decode("iso-8859-1").strip()

    def _read_headers(self) -> None:
        """Read the headers up to a limit. Raises `IncompleteRead` for a head that ends too early."""
        headers = http.client.HTTPMessage()
        names: list[tuple[str, str]] = []
        size = 0
        while (line := self.fp.readline(LINE_LIMIT + 1)) not in (b"\r\n", b"\n"):
            size += len(line)
            if len(line) > LINE_LIMIT or size > HEADERS_LIMIT or len(names) >= HEADER_LIMIT:
                self._too_many_headers, self._is_sound = True, False
                break
            if not line.endswith(b"\n"):
                raise http.client.IncompleteRead(line)
            self._add_header(line, names)
        for name, value in names:
            headers.set_raw(name, value)  # as the parser of `email` does
        self.headers = self.msg = headers

    def _add_header(self, line: bytes, names: list[tuple[str, str]]) -> None:
        """Add a header line. A malformed one is kept as far as possible, but the connection is not reused."""
        # Two programs may read a malformed line in different ways, and so disagree on where the body ends.
        text = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        name, colon, value = text.partition(b":")
        if colon and _NAME.fullmatch(name) and b"\r" not in value and line.endswith(b"\r\n"):
            names.append((name.decode("ascii"), value.strip(b" \t").decode("iso-8859-1")))
            return
        self._is_sound = False
        if text[:1] in (b" ", b"\t") and names:  # a folded line
            before = names.pop()
            names.append((before[0], f"{before[1]} {text.strip().decode('iso-8859-1')}"))
        elif colon and _NAME.fullmatch(name.strip()):
            names.append((name.strip().decode("ascii"), value.replace(b"\r", b" ").strip().decode("iso-8859-1")))

    def _set_framing(self) -> None:
        """Determine where the body ends (RFC 9112, 6.3). In doubt, it is read until the connection closes."""
        codings = self.headers.get_all("transfer-encoding", [])
        lengths = self.headers.get_all("content-length", [])
        self.chunked, self.chunk_left, self.length = False, None, None
        if self.status in EMPTY or self._method == "HEAD":  # type: ignore[attr-defined]
            self.length = 0
            self._is_sound &= not codings and (self.status != 204 or lengths in ([], ["0"]))
        elif codings:
            self.chunked = [one.lower() for one in codings] == ["chunked"]
            self._is_sound &= self.chunked and not lengths and self.version == 11
        elif len(set(lengths)) == 1 and lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 16:
            self.length = int(lengths[0])
            self._is_sound &= len(lengths) == 1
        elif lengths:
            self._is_sound = False
        if not self._is_sound and (lengths or codings):
            self._rewrite_framing()
        closes = self._check_close()  # type: ignore[attr-defined]
        self.will_close = closes or not self._is_sound or (not self.chunked and self.length is None)

    def _rewrite_framing(self) -> None:
        """Rewrite the framing headers to what was decided here."""
        # Workaround: urllib3 reads these headers again, and could come to another end of the body.
        del self.headers["content-length"], self.headers["transfer-encoding"]
        if self.chunked:
            self.headers["Transfer-Encoding"] = "chunked"
        elif self.length is not None:
            self.headers["Content-Length"] = str(self.length)

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(LINE_LIMIT + 1)
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise ValueError("not the size of a chunk")
        return int(found[1], 16)

    def _get_chunk_left(self) -> int | None:
        """Return the bytes left in the current chunk; reads the next chunk's size where it is complete."""
        # Overrides `http.client`, which accepts a chunk without its closing line break, and any text as its size.
        if not self.chunk_left:
            if self.chunk_left is not None and self._safe_read(2) != b"\r\n":  # type: ignore[attr-defined]
                self._is_sound = False
                raise http.client.IncompleteRead(b"")
            try:
                self.chunk_left = self._read_next_chunk_size()
            except ValueError:
                self._is_sound = False
                raise http.client.IncompleteRead(b"") from None
            if self.chunk_left == 0:
                self._read_trailer()
                self._close_conn()
                self.chunk_left = None
        return self.chunk_left

    def _read_trailer(self) -> None:
        left = HEADERS_LIMIT
        while (line := self.fp.readline(LINE_LIMIT + 1)) != b"\r\n":
            left -= len(line)
            if not line.endswith(b"\r\n") or left < 0:
                return
        self._has_ended = True

    def _close_conn(self) -> None:
        """Decide whether the connection may be reused, now that the response is complete."""
        # Here, since the buffer is still there: bytes in it would be taken for the next request's response.
        ended = self._has_ended if self.chunked else self.length == 0
        if ended and self._is_sound and not self.will_close and self._exchange.complete:
            self.fp.raw.finish()
            self._exchange.reusable = not self.fp.peek(1) and not self._exchange.early_data
        super()._close_conn()  # type: ignore[misc]  # `http.client` declares it
