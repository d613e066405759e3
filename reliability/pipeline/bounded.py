"""An adapter whose answers have to be there by a moment, however slowly they trickle in.

The timeouts of `requests` are for each read of the socket: a server that sends its headers a byte at a time would be
waited for without end, and longer than the delivery's lease. Here each read has no more time than is left in all.
"""

import http.client
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

_local = threading.local()


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Let answers that begin meanwhile, in this thread, be there by `deadline` (by `time.monotonic`)."""
    _local.deadline = deadline
    try:
        yield
    finally:
        _local.deadline = None


class Reader(io.RawIOBase):
    """The bytes of a socket, each read of which raises `TimeoutError` at the deadline."""

    def __init__(self, raw: Any, connection: Any, deadline: float) -> None:
        super().__init__()
        self._raw, self._connection, self._deadline = raw, connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        timeout = self._connection.gettimeout()
        self._connection.settimeout(left if timeout is None else min(left, timeout))
        found: int | None = self._raw.readinto(buffer)
        return found

    def close(self) -> None:
        self._raw.close()
        super().close()


class Response(http.client.HTTPResponse):
    """An answer that is read by a deadline, where one is set."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        deadline = getattr(_local, "deadline", None)
        if deadline is not None:
            self.fp = io.BufferedReader(Reader(self.fp.detach(), sock, deadline))


class _Plain(HTTPConnection):
    response_class = Response


class _Tls(HTTPSConnection):
    response_class = Response


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


class Adapter(HTTPAdapter):
    """The adapter of `requests`, with such connections."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _prepare(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        found = super().proxy_manager_for(*arguments, **options)
        if isinstance(found, ProxyManager):  # one of SOCKS has connections of its own
            _prepare(found)
        return found


def _prepare(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
