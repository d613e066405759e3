"""Explains why no reply came: the kind of failure, from how far the exchange got, and a text that names the setting."""

import errno
import http.client
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Literal

import requests
import urllib3

from config.resolver import NameTimeout
from reliability.formats.storable import storable
from reliability.policies.classification import Failure
from reliability.policies.error_codes import ErrorCode

from .exchange import Exchange, LeaseExpired, Stage
from .local_fault import LocalFault

DETAIL_LIMIT = 300
# Errors of this machine itself: out of descriptors, memory or ports, or forbidden by a local firewall.
LOCAL_ERRNOS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
BAD_ADDRESS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.LocationValueError,
    http.client.InvalidURL,
    UnicodeError,
)
# OpenSSL's reasons when the other side does not speak TLS at all.
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_OPENSSL_PREFIX_AND_SUFFIX = re.compile(r"^\[[^\]]*\] |\s*\(_ssl\.c:\d+\)$")
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why no reply came. `code` is more exact than `failure`, or empty."""

    failure: Failure
    detail: str
    code: ErrorCode | Literal[""] = ""


def explain(error: BaseException, exchange: Exchange, *, url_from: str, proxy_from: str) -> NoReply:
    """Return why `exchange` got no reply; `url_from` and `proxy_from` name the settings of its addresses."""
    # The order matters: our own faults first, which must charge no breaker; then a proxy's, which hides what is behind.
    cause = _cause(error)
    if isinstance(cause, LocalFault):
        return NoReply(Failure.LOCAL_FAULT, str(cause), cause.code)
    if isinstance(cause, LeaseExpired):
        text = "The worker was too slow: its lease on the delivery was about to end, so it did not send."
        return NoReply(Failure.LOCAL_FAULT, text, ErrorCode.LEASE_RAN_OUT)
    detail = describe(cause)
    if isinstance(cause, BAD_ADDRESS) and exchange.stage <= Stage.RESOLVE:
        return NoReply(Failure.LOCAL_FAULT, f"{url_from} has an address that cannot be used.", ErrorCode.URL_UNUSABLE)
    if exchange.stage is Stage.START and isinstance(cause, ValueError):
        return NoReply(Failure.LOCAL_FAULT, "The request cannot be built.")
    if exchange.via_proxy and exchange.stage < Stage.READY:
        found = _proxy_failure(cause, exchange.stage, detail, proxy_from)
        if found is not None:
            return found
    if (
        exchange.stage <= Stage.CONNECT
        and isinstance(cause, OSError)
        and cause.errno in LOCAL_ERRNOS
        and not _has_own_codes(cause)
    ):
        return NoReply(Failure.LOCAL_FAULT, f"This machine cannot open a connection: {detail}.")
    failure = failure_of(error, exchange.stage)
    return NoReply(failure, detail, ErrorCode.DNS_TIMEOUT if isinstance(cause, NameTimeout) else "")


def _proxy_failure(cause: BaseException, stage: Stage, detail: str, proxy_from: str) -> NoReply | None:
    """Distinguish a proxy that is down or refuses from one that cannot reach n8n; `None` for anything else."""
    # A 5xx to CONNECT is about what is behind the proxy, a 4xx about us.
    refusal = _TUNNEL.search(str(cause))
    if refusal is not None and int(refusal[1]) < 500:
        text = f"The proxy of {proxy_from} refused the connection ({refusal[1]})."
        return NoReply(Failure.LOCAL_FAULT, text, ErrorCode.PROXY_REFUSED)
    if refusal is not None:
        return NoReply(Failure.CONNECTION_REFUSED, f"the proxy of {proxy_from} answered {refusal[1]}")
    if stage in (Stage.RESOLVE, Stage.CONNECT):
        text = f"The proxy of {proxy_from} cannot be reached: {detail}."
        return NoReply(Failure.LOCAL_FAULT, text, ErrorCode.PROXY_UNREACHABLE)
    if stage is Stage.PROXY and not isinstance(cause, TimeoutError):
        text = f"The proxy of {proxy_from} did not answer like a proxy: {detail}."
        return NoReply(Failure.LOCAL_FAULT, text, ErrorCode.PROXY_REFUSED)
    return None


def failure_of(error: BaseException, stage: Stage = Stage.START) -> Failure:
    """Return the kind of failure, from the cause of the exception and the stage that the exchange reached.

    At `Stage.START` only the exception decides, and a broken connection counts as broken after sending.
    """
    cause = _cause(error)
    if isinstance(cause, LocalFault | LeaseExpired) or (isinstance(cause, BAD_ADDRESS) and stage <= Stage.RESOLVE):
        return Failure.LOCAL_FAULT
    if isinstance(cause, socket.gaierror | urllib3.exceptions.NameResolutionError):
        return Failure.DNS_FAILURE
    timed_out = isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError)
    match stage:
        case Stage.START:
            return _by_type(error, cause, timed_out)
        case Stage.RESOLVE | Stage.CONNECT | Stage.PROXY | Stage.HANDSHAKE:
            return _before_sending(cause, stage, timed_out)
        case _ if _is_tls_alert(cause):
            return Failure.TLS_ERROR
        case Stage.READY:
            return Failure.CONNECT_TIMEOUT if timed_out else Failure.CONNECTION_RESET
        case Stage.SEND:
            return Failure.SEND_INTERRUPTED
        case _:
            return Failure.READ_TIMEOUT if timed_out else Failure.CONNECTION_LOST_AFTER_SEND


def _before_sending(cause: BaseException, stage: Stage, timed_out: bool) -> Failure:
    in_handshake = stage is Stage.HANDSHAKE
    if timed_out:
        return Failure.TLS_HANDSHAKE_TIMEOUT if in_handshake else Failure.CONNECT_TIMEOUT
    if isinstance(cause, ConnectionResetError) or (in_handshake and isinstance(cause, ConnectionError)):
        return Failure.CONNECTION_RESET
    return Failure.TLS_ERROR if in_handshake else Failure.CONNECTION_REFUSED


def _by_type(error: BaseException, cause: BaseException, timed_out: bool) -> Failure:
    if isinstance(error, requests.ConnectTimeout) or isinstance(cause, requests.ConnectTimeout):
        return Failure.CONNECT_TIMEOUT
    if isinstance(cause, ConnectionRefusedError | urllib3.exceptions.NewConnectionError):
        return Failure.CONNECTION_REFUSED
    if timed_out:
        return Failure.READ_TIMEOUT
    if isinstance(cause, ssl.SSLError | requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return Failure.TLS_ERROR
    broke = (ConnectionError, http.client.HTTPException, urllib3.exceptions.ProtocolError)
    return Failure.CONNECTION_LOST_AFTER_SEND if isinstance(cause, broke) else Failure.CONNECTION_ERROR


def _is_tls_alert(cause: BaseException) -> bool:
    """Whether the server rejected our handshake. In TLS 1.3 its alert arrives after the request was written."""
    return isinstance(cause, ssl.SSLError) and "ALERT" in (getattr(cause, "reason", "") or "")


def _has_own_codes(cause: BaseException) -> bool:
    return isinstance(cause, socket.gaierror | ssl.SSLError)


def describe(cause: BaseException) -> str:
    """Return an error as text for a person."""
    # The errno of TLS and resolver errors is not one of the operating system: strerror would name an unrelated error.
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"certificate verify failed: {cause.verify_message}"
    elif isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "reason", "") or ""
        text = reason.replace("_", " ").lower() or _OPENSSL_PREFIX_AND_SUFFIX.sub("", str(cause.strerror or cause))
        if reason in NO_TLS:
            text += ": does this port speak TLS?"
    elif isinstance(cause, socket.gaierror):
        text = str(cause.strerror or cause)
    elif isinstance(cause, TimeoutError):
        text = "timed out"
    elif isinstance(cause, OSError) and cause.errno:
        text = os.strerror(cause.errno)
    elif isinstance(cause, http.client.IncompleteRead):
        text = "the connection closed within the headers of the response"
    elif isinstance(cause, requests.RequestException | urllib3.exceptions.HTTPError):
        text = type(cause).__name__  # its text repeats the address, whose query may be a secret
    else:
        text = str(cause)
    return storable(text)[:DETAIL_LIMIT] or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    """Return the error below `requests` and urllib3: the first cause that is not one of their wrappers."""
    # They wrap errors in several ways: `reason`, arguments, __cause__ and __context__. The limit guards against cycles.
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < 20:
        current = waiting.pop(0)
        if any(current is one for one in found):
            continue
        found.append(current)
        linked = [getattr(current, "reason", None), *current.args, current.__cause__, current.__context__]
        waiting.extend(one for one in linked if isinstance(one, BaseException))
    wrappers = (requests.RequestException, urllib3.exceptions.HTTPError)
    foreign = [one for one in found if not isinstance(one, wrappers)]
    local = [one for one in found if isinstance(one, LocalFault)]
    unusable = [one for one in found if isinstance(one, BAD_ADDRESS)]
    return (local or unusable or foreign or found[-1:])[0]
