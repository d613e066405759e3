"""Connections for `requests` with a deadline for the whole exchange, and no reuse of a connection in an unknown state.

The timeouts of `requests` apply to each read of the socket: a server that sends its headers a byte at a time would be
waited for without end, longer than the delivery's lease. Here each step gets only the time that is left in all. A
connection returns to its pool only if the response was framed correctly and read to its end, with nothing after it.
Every other connection is closed, so that no answer can be taken for another request's.
"""

import socket
from typing import Any

from requests import Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from config import resolver

from . import exchange as exchanges
from . import response, tls
from .exchange import Exchange, Stage

# Seconds for each of: resolving the name, connecting, a proxy's answer to CONNECT.
CONNECT_TIMEOUT = 5.0
HANDSHAKE_TIMEOUT = 10.0
# Seconds. Node (n8n) closes a connection that was idle for 5 s. One that may be closing is not used: the request could
# arrive, or not, and nobody would know.
IDLE_LIMIT = 4.0


class _Bounded(HTTPConnection):
    """A connection whose steps obey the deadlines of the current exchange of its thread."""

    response_class = response.Response
    tls = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._parts: list[bytes] | None = None
        self._used_at = 0.0
        self._exchange: Exchange | None = None

    @property
    def is_connected(self) -> bool:
        """Whether it may carry another request: it was not idle for long, and nothing was received meanwhile."""
        if self.sock is None or exchanges.now() - self._used_at > IDLE_LIMIT:
            return False
        pending = getattr(self.sock, "pending", None)  # what TLS has read already, `select` cannot see
        return not (pending and pending()) and super().is_connected

    @property
    def is_reusable(self) -> bool:
        return self._exchange is not None and self._exchange.reusable

    def _new_conn(self) -> socket.socket:
        exchange = exchanges.current()
        exchange.via_proxy = self.proxy is not None
        exchange.enter(Stage.RESOLVE, limit=CONNECT_TIMEOUT)
        addresses = resolver.resolve(self._dns_host.strip("[]"), self.port, within=exchange.remaining())
        exchange.enter(Stage.CONNECT, limit=CONNECT_TIMEOUT)
        connected = self._connect_to(addresses, exchange)
        self._enter_handshake(connected)
        return connected

    def _connect_to(self, addresses: list[resolver.Address], exchange: Exchange) -> socket.socket:
        """Connect to the first address that accepts, each within an even share of the remaining time."""
        # Without shares, a first address that drops packets would use up the time of all others.
        failed: OSError = OSError("The name has no address.")
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                made = socket.socket(family, kind, protocol)
            except OSError as error:
                failed = error
                continue
            try:
                for option in self.socket_options or ():
                    made.setsockopt(*option)
                made.settimeout(exchange.remaining() / (len(addresses) - index))
                made.connect(address)
            except OSError as error:
                made.close()
                failed = error
            else:
                return made
        raise failed

    def _enter_handshake(self, sock: Any) -> None:
        if self.tls:
            exchange = exchanges.current()
            exchange.enter(Stage.HANDSHAKE, limit=HANDSHAKE_TIMEOUT)
            sock.settimeout(exchange.remaining())

    def _tunnel(self) -> None:
        exchange = exchanges.current()
        exchange.enter(Stage.PROXY, limit=CONNECT_TIMEOUT)
        self.sock.settimeout(exchange.remaining())
        super()._tunnel()
        exchange.received = False  # what was received so far was the proxy's answer to CONNECT
        self._enter_handshake(self.sock)

    def request(self, *arguments: Any, **options: Any) -> None:
        """Build the whole request, then write it in one call."""
        # `send` below collects the parts. Written part by part, the deadlines could not be checked before each write,
        # and it would be unknown how much of the request the other side has.
        exchange = self._exchange = exchanges.current()
        exchange.reused = self.sock is not None and self._used_at > 0
        parts: list[bytes] = []
        self._parts = parts
        try:
            super().request(*arguments, **options)
        finally:
            self._parts = None
        if self.sock is None:
            self.connect()
        exchange.write(self.sock, parts)

    def putheader(self, header: Any, *values: Any) -> None:
        """Add a header. Names and values were validated before; only line breaks are checked again."""
        value = values[0]
        if len(values) != 1 or not isinstance(header, str) or not isinstance(value, str) or value.startswith("@@"):
            super().putheader(header, *values)  # a value of urllib3's own, or one that is encoded already
            return
        line = f"{header}: {value}".encode("latin-1")
        if b"\r" in line or b"\n" in line:
            raise ValueError("A header holds a line break.")
        self._output(line)  # type: ignore[attr-defined]  # of `http.client`

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)  # a proxy's CONNECT
        else:
            self._parts.append(data)

    def mark_released(self) -> None:
        self._used_at = exchanges.now()

    def close(self) -> None:
        super().close()
        self._used_at = 0.0


class _Plain(_Bounded):
    pass


class _Tls(_Bounded, HTTPSConnection):
    tls = True


class _Pool(HTTPConnectionPool):
    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            if conn.is_reusable:
                conn.mark_released()
            else:
                conn.close()
        super()._put_conn(conn)


class _PlainPool(_Pool):
    ConnectionCls = _Plain


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _Tls


class Adapter(HTTPAdapter):
    """The adapter of `requests`, with such connections. Sending needs a current exchange (`exchange.use_exchange`)."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _prepare(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if proxy.lower().startswith("https:"):
            options["proxy_ssl_context"] = tls.context(tls.bundle().path)
        found = super().proxy_manager_for(proxy, **options)
        if isinstance(found, ProxyManager):
            _prepare(found)
        return found

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Use one TLS context for all connections with the same CA bundle: loading one takes milliseconds."""
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            options = {"cert_reqs": "CERT_REQUIRED", "ssl_context": tls.context(verify if verify is not True else "")}
        return host, options

    def request_url(self, request: Any, proxies: Any) -> Any:
        """Return the target of the request line: the path, or what a proxy needs."""
        return super().request_url(request, proxies) if proxies else request.path_url

    def build_response(self, req: Any, resp: Any) -> Response:
        """Return a response without what `requests` adds and nobody reads here: cookies and a guessed encoding."""
        made = Response()
        made.status_code, made.reason, made.headers = resp.status, resp.reason, CaseInsensitiveDict(resp.headers)
        made.raw, made.url, made.request = resp, req.url, req
        return made

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: the pool's TLS context has the CA bundle."""


def _prepare(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
