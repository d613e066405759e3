"""Sends one attempt to n8n. The only module that opens a socket, by the connections of `bounded`."""

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.request import getproxies

import requests
import urllib3
from requests.adapters import BaseAdapter
from standardwebhooks.webhooks import Webhook

from reliability.policies.classification import Failure, Reply
from reliability.policies.storable import storable

from . import bounded

USER_AGENT = "Backstop/1 (+n8n reliability control plane)"
CONNECT_TIMEOUT = 5.0
BODY_LIMIT = 64 * 1024
CALL_LIMIT = 16 * 1024 * 1024
HEADER_LIMIT = 200
HEADERS = {
    **requests.utils.default_headers(),
    "User-Agent": USER_AGENT,
    "Content-Type": "application/json",
    "Accept": "*/*",
}

logger = logging.getLogger(__name__)
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt as it goes over the wire. `timeout` in seconds, for the whole exchange."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    timeout: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a reply, or the way in which none came; `duration` in seconds."""

    reply: Reply | None
    failure: Failure | None
    detail: str
    duration: float


def send(request: Request) -> Answer:
    """POST `request` and return what came back. Raises nothing that a network can cause.

    Redirects are not followed. The first `BODY_LIMIT` bytes of the body are kept. The timeout bounds the whole
    exchange, so that headers or a body which trickle in cannot outlast the lease.
    """
    begin = time.monotonic()
    try:
        with bounded.until(begin + request.timeout):
            reply = _post(request, deadline=begin + request.timeout)
        return Answer(reply, None, "", time.monotonic() - begin)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        failure = failure_of(error)
        return Answer(None, failure, _detail(error), time.monotonic() - begin)


def call(
    *, method: str, url: str, headers: Mapping[str, str], timeout: float, document: Any = None, limit: int = CALL_LIMIT
) -> Answer:
    """Ask for JSON, with `document` as the body, and return what came back. Raises nothing that a network can cause.

    As `send`: no redirects, `timeout` (seconds) for the whole exchange. A body of more than `limit` bytes, or one
    that breaks off, is no answer.
    """
    begin = time.monotonic()
    try:
        with bounded.until(begin + timeout):
            reply = _call(method, url, headers, document, limit=limit, timeout=timeout)
        return Answer(reply, None, "", time.monotonic() - begin)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Answer(None, failure_of(error), _detail(error), time.monotonic() - begin)


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
        made.trust_env = False
        made.proxies = getproxies()
        made.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        adapter = bounded.Adapter(pool_connections=4, pool_maxsize=1, max_retries=0)
        made.mount("http://", adapter)
        made.mount("https://", adapter)
        _local.session = made
    return _local.session  # type: ignore[no-any-return]  # a thread-local has no types


def _proxies(url: str) -> dict[str, str]:
    chosen = session().proxies
    return {} if not chosen or requests.utils.should_bypass_proxies(url, None) else dict(chosen)


def _post(request: Request, *, deadline: float) -> Reply:
    """Send by the adapter itself: a session would merge, prepare and keep what is the same with every attempt."""
    with _adapter(request.url).send(
        _prepared(request),
        stream=True,
        timeout=(min(CONNECT_TIMEOUT, request.timeout), request.timeout),
        verify=_verify(request.url),
        proxies=_proxies(request.url),
    ) as response:
        body = _read(response, deadline=deadline)
        kept = list(response.headers.items())[:HEADER_LIMIT]
        return Reply(
            status=response.status_code,
            headers={storable(name.lower()): storable(value) for name, value in kept},
            body=storable(body.decode("utf-8", "replace")),
        )


def _adapter(url: str) -> BaseAdapter:
    return session().get_adapter(url)


def _verify(url: str) -> bool | str:
    """Return what certificates are held against; where there are none, nothing is looked up for them."""
    return (session().verify or True) if url.lower().startswith("https:") else True


def _prepared(request: Request) -> requests.PreparedRequest:
    """Return an attempt as it goes out. Raises `requests.RequestException` where its address or a header is unsound."""
    address = _address(request.url)
    made = requests.PreparedRequest()
    made.method, made.url, made.body, made.hooks = "POST", address.url, request.body, {}
    made.prepare_headers({**HEADERS, **request.headers, "Content-Length": str(len(request.body))})
    made.headers.update(address.headers)
    return made


@lru_cache(maxsize=1024)
def _address(url: str) -> requests.PreparedRequest:
    """Prepare an address once: its normal form, and as a header the name and password that it may hold."""
    return requests.Request("GET", url).prepare()


def _call(  # one request
    method: str,
    url: str,
    headers: Mapping[str, str],
    document: Any,
    *,
    limit: int,
    timeout: float,
) -> Reply:
    with session().request(
        method,
        url,
        json=document,
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", **headers},
        timeout=(min(CONNECT_TIMEOUT, timeout), timeout),
        allow_redirects=False,
        stream=True,
        proxies=_proxies(url),
    ) as response:
        parts: list[bytes] = []
        while part := response.raw.read1(65_536, decode_content=True):
            parts.append(part)
            if sum(map(len, parts)) > limit:
                raise ValueError(f"The answer is larger than {limit} bytes.")
        kept = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status_code, headers=kept, body=b"".join(parts).decode("utf-8", "replace"))


def _read(response: requests.Response, *, deadline: float) -> bytes:
    """Read the start of the body. The status has come, so a body that breaks off changes nothing."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < BODY_LIMIT and time.monotonic() < deadline:
            part = response.raw.read1(8192, decode_content=True)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        logger.debug("response_body_cut", extra={"error": type(error).__name__})
    return b"".join(parts)[:BODY_LIMIT]


def failure_of(error: BaseException) -> Failure:
    """Name the way in which no reply came, from the chain of causes of `requests`' exception."""
    if isinstance(error, requests.exceptions.SSLError):
        return Failure.TLS_ERROR
    if isinstance(error, requests.ConnectTimeout):
        return Failure.CONNECT_TIMEOUT
    if isinstance(error, requests.ReadTimeout):
        return Failure.READ_TIMEOUT
    causes = list(_causes(error))
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError | socket.gaierror) for cause in causes):
        return Failure.DNS_FAILURE
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Failure.CONNECTION_REFUSED
    if any(isinstance(cause, ConnectionError | urllib3.exceptions.ProtocolError) for cause in causes):
        return Failure.CONNECTION_RESET
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):
        return Failure.CONNECTION_REFUSED
    if any(isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) for cause in causes):
        return Failure.READ_TIMEOUT
    return Failure.CONNECTION_ERROR


def _causes(error: BaseException) -> "list[BaseException]":
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < 20:
        current = waiting.pop()
        if any(current is one for one in found):
            continue
        found.append(current)
        linked = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        waiting.extend(one for one in linked if isinstance(one, BaseException))
    return found


def _detail(error: BaseException) -> str:
    """Say what broke without the URL's query, which may hold a secret."""
    innermost = _causes(error)[-1]
    text = os.strerror(innermost.errno) if isinstance(innermost, OSError) and innermost.errno else str(innermost)
    return storable(text)[:300] or type(error).__name__
