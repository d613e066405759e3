"""Sends one HTTP request: an attempt to n8n, or a call of another service's JSON API."""

import http.client
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal
from urllib.request import getproxies

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from standardwebhooks.webhooks import Webhook

from reliability.formats.storable import storable
from reliability.policies.classification import Failure, Reply
from reliability.policies.error_codes import ErrorCode

from . import deadline_adapter, no_reply, tls
from . import exchange as exchanges
from .exchange import Exchange, LeaseExpired
from .local_fault import LocalFault

USER_AGENT = "Backstop/1 (+n8n reliability control plane)"
# Bytes of a reply's body that an attempt keeps.
BODY_LIMIT = 64 * 1024
# Bytes of a JSON answer that `call` reads; a longer one is an error.
CALL_LIMIT = 16 * 1024 * 1024
# Limits for the stored headers of a reply: how many, characters of one value, characters of all of them.
HEADER_LIMIT = 200
VALUE_LIMIT = 4096
HEADERS_LIMIT = 32 * 1024
# No brotli or zstd: `_is_readable` relies on codings that give something for each piece they read.
CODINGS = ("gzip", "deflate")
READABLE = frozenset({"", "identity", "x-gzip", *CODINGS})
HEADERS = {
    **requests.utils.default_headers(),
    "User-Agent": USER_AGENT,
    "Accept-Encoding": ", ".join(CODINGS),
    "Content-Type": "application/json",
    "Accept": "*/*",
}
CALL_HEADERS = {name: HEADERS[name] for name in ("User-Agent", "Accept-Encoding")} | {"Accept": "application/json"}
ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    LeaseExpired,
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")

logger = logging.getLogger(__name__)
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Names:
    """Names of the settings that the address and the headers come from, for error messages."""

    url: str = "N8N_WEBHOOK_URL"
    headers: str = "the workflow's authentication header"


WEBHOOKS = Names()


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt as it is sent. `timeout` in seconds, for the whole exchange.

    No byte is written after `send_by`, a moment of `exchange.now()`.
    """

    url: str
    body: bytes
    headers: Mapping[str, str]
    timeout: float
    send_by: float | None = None
    names: Names = WEBHOOKS


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request: a reply, or the failure. `duration` in seconds.

    `code` is more exact than `failure`, or empty.
    """

    reply: Reply | None
    failure: Failure | None
    detail: str
    duration: float
    code: ErrorCode | Literal[""] = ""


def send(request: Request) -> Answer:
    """POST `request` and return the result. Errors of the network are returned, not raised.

    Redirects are not followed. The first `BODY_LIMIT` bytes of the body are kept. The timeout bounds the whole
    exchange, so that headers or a body which trickle in cannot outlast the lease.
    """
    return _exchange(
        lambda: _post(request), url=request.url, names=request.names, timeout=request.timeout, send_by=request.send_by
    )


def call(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    timeout: float,
    document: Any = None,
    limit: int = CALL_LIMIT,
    names: Names = WEBHOOKS,
) -> Answer:
    """Call a JSON API with `document` as the body. Errors of the network are returned, not raised.

    As in `send`: redirects are not followed, `timeout` (seconds) is for the whole exchange. A body that is longer than
    `limit` bytes, or incomplete, is a failure.
    """
    return _exchange(
        lambda: _call(method, url, headers, document, limit=limit, names=names),
        url=url,
        names=names,
        timeout=timeout,
    )


def _exchange(
    attempt: Callable[[], Reply], *, url: str, names: Names, timeout: float, send_by: float | None = None
) -> Answer:
    """Run one exchange, and a second time on a new connection if a kept one turned out to be closed."""
    begin = time.monotonic()
    deadline = exchanges.now() + timeout
    repeated = False
    while True:
        exchange = Exchange(deadline, send_by)
        try:
            with exchanges.use_exchange(exchange):
                return Answer(attempt(), None, "", time.monotonic() - begin)
        except ERRORS as error:
            # Only where the request certainly did not arrive: n8n must not run it twice. Once only, since the second
            # exchange uses a new connection.
            if not repeated and exchange.may_repeat(error):
                repeated = True
                continue
            why = no_reply.explain(error, exchange, url_from=names.url, proxy_from=_proxy_variable(url))
            return Answer(None, why.failure, why.detail, time.monotonic() - begin, why.code)


def sign(*, secret: str, message_id: str, body: bytes, at: float) -> dict[str, str]:
    """Return the three headers of the Standard Webhooks specification for `body`, sent at `at` (seconds)."""
    moment = datetime.fromtimestamp(int(at), UTC)
    signature = Webhook(secret).sign(msg_id=message_id, timestamp=moment, data=body.decode())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": signature,
    }


def session() -> requests.Session:
    """Return this thread's session. Proxies and CA bundle are read from the environment once, not per request."""
    if not hasattr(_local, "session"):
        made = requests.Session()
        # Else `requests` reads proxies, bundles and ~/.netrc for each request; .netrc would also overwrite our header.
        made.trust_env = False
        made.proxies = getproxies()
        made.verify = tls.bundle().path or True
        adapter = deadline_adapter.Adapter(pool_connections=4, pool_maxsize=1, max_retries=0)
        made.mount("http://", adapter)
        made.mount("https://", adapter)
        _local.session = made
    return _local.session  # type: ignore[no-any-return]  # a thread-local has no types


def _proxies(url: str) -> dict[str, str]:
    """Return the proxies that `url` goes through. Raises `LocalFault` for one that cannot be used."""
    chosen = session().proxies
    if not chosen or requests.utils.should_bypass_proxies(url, None):
        return {}
    if proxy := requests.utils.select_proxy(url, dict(chosen)):
        _check_proxy(proxy, _proxy_variable(url))
    return dict(chosen)


def _check_proxy(proxy: str, variable: str) -> None:
    scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
    if scheme not in ("http", "https"):
        text = (
            f"{variable} names a proxy of the kind '{scheme}', which is not supported: use one of http:// or https://."
        )
        raise LocalFault(ErrorCode.PROXY_UNUSABLE, text)
    try:
        host = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}").host
    except urllib3.exceptions.LocationParseError:
        host = None
    if not host:
        raise LocalFault(ErrorCode.PROXY_UNUSABLE, f"{variable} has an address that cannot be used.")


def _proxy_variable(url: str) -> str:
    """Return the variable by which the environment names the proxy for `url`."""
    scheme = url.partition("://")[0].lower()
    return f"{scheme.upper()}_PROXY" if scheme in session().proxies else "ALL_PROXY"


def _post(request: Request) -> Reply:
    """Send one attempt and read the start of its reply."""
    # Through the adapter, not a session: that would merge and prepare the same settings for every attempt.
    with (
        session()
        .get_adapter(request.url)
        .send(
            _prepare(request),
            stream=True,
            timeout=(deadline_adapter.CONNECT_TIMEOUT, request.timeout),
            verify=_verify(request.url),
            proxies=_proxies(request.url),
        ) as response
    ):
        body = _read(response)
        return Reply(
            status=response.status_code,
            headers=_stored_headers(response.headers),
            body=storable(body.decode("utf-8", "replace")),
        )


def _verify(url: str) -> bool | str:
    """Return the CA bundle that an https address is verified with."""
    return (session().verify or True) if url.lower().startswith("https:") else True


def _prepare(request: Request) -> requests.PreparedRequest:
    """Return the prepared attempt. Raises `LocalFault`, or an error of `requests` about the address."""
    address = _prepare_address(request.url)
    _check_headers(request.headers, request.names)
    made = requests.PreparedRequest()
    made.method, made.url, made.body, made.hooks = "POST", address.url, request.body, {}
    made.headers = CaseInsensitiveDict(HEADERS)
    made.headers.update(request.headers)
    made.headers["Content-Length"] = str(len(request.body))
    made.headers.update(address.headers)
    return made


def _check_headers(headers: Mapping[str, str], names: Names) -> None:
    """Raise `LocalFault` for a header that HTTP cannot carry, before a connection is opened."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            text = f"The header {name!a} cannot be sent: its name is not one that HTTP knows. See {names.headers}."
            raise LocalFault(ErrorCode.HEADER_UNSENDABLE, text)
        if _UNSENDABLE.search(value) or value != value.strip(" \t"):
            text = f"The header {name} cannot be sent: its value has a character that HTTP cannot carry."
            raise LocalFault(ErrorCode.HEADER_UNSENDABLE, f"{text} See {names.headers}.")


@lru_cache(maxsize=1024)
def _prepare_address(url: str) -> requests.PreparedRequest:
    """Prepare an address once: its normal form, and an Authorization header if it has a name and password."""
    return requests.Request("GET", url).prepare()


def _call(  # one request
    method: str, url: str, headers: Mapping[str, str], document: Any, *, limit: int, names: Names
) -> Reply:
    _check_headers(headers, names)
    with session().request(
        method,
        url,
        json=document,
        headers={**CALL_HEADERS, **headers},
        timeout=deadline_adapter.CONNECT_TIMEOUT,
        allow_redirects=False,
        stream=True,
        proxies=_proxies(url),
    ) as response:
        if not _is_readable(response):
            raise ValueError("The answer is encoded in a way that was not asked for.")
        parts: list[bytes] = []
        size = 0
        while part := response.raw.read1(65_536, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise ValueError(f"The answer is larger than {limit} bytes.")
        kept = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status_code, headers=kept, body=b"".join(parts).decode("utf-8", "replace"))


def _read(response: requests.Response) -> bytes:
    """Read the start of the body. The status is known already, so an incomplete body changes nothing."""
    if not _is_readable(response):
        logger.debug("response_body_not_asked_for")
        return b""
    parts: list[bytes] = []
    size = 0
    try:
        while size < BODY_LIMIT:
            part = response.raw.read1(8192, decode_content=True)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        logger.debug("response_body_cut", extra={"error": type(error).__name__})
    return b"".join(parts)[:BODY_LIMIT]


def _is_readable(response: requests.Response) -> bool:
    """Whether the body has at most one content coding, and one that we asked for."""
    # A single coding returns at most what was wanted for each piece that is read. A coding within another can unpack
    # for minutes without returning anything, and the deadline is not checked meanwhile.
    return response.headers.get("Content-Encoding", "").strip().lower() in READABLE


def _stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that an attempt stores."""
    kept: dict[str, str] = {}
    size = 0
    for name, value in list(headers.items())[:HEADER_LIMIT]:
        # A long value is left out whole: a part could end within a secret, which redaction would not recognise.
        text = storable(value) if len(value) <= VALUE_LIMIT else f"[{len(value):,} characters]"
        size += len(name) + len(text)
        if size > HEADERS_LIMIT:
            break
        kept[storable(name.lower())] = text
    return kept
