"""Says why no reply came: which failure it is, by how far the exchange came, and in words that name the setting."""

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

from .exchange import Exchange, LeaseRanOut, Stage
from .local_fault import LocalFault

DETAIL_LIMIT = 300
# What this machine has run out of, or forbids itself.
OURS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
UNUSABLE = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.LocationValueError,
    http.client.InvalidURL,
    UnicodeError,
)
# What OpenSSL says where the other side does not speak TLS at all.
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_SURROUNDINGS = re.compile(r"^\[[^\]]*\] |\s*\(_ssl\.c:\d+\)$")
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why no reply came. `code` is empty where the failure's own says enough."""

    failure: Failure
    detail: str
    code: ErrorCode | Literal[""] = ""


def explain(error: BaseException, exchange: Exchange, *, url_from: str, proxy_from: str) -> NoReply:
    """Say why no reply came to `exchange`; `url_from` and `proxy_from` name the settings of its addresses."""
    cause = _cause(error)
    if isinstance(cause, LocalFault):
        return NoReply(Failure.LOCAL_FAULT, str(cause), cause.code)
    if isinstance(cause, LeaseRanOut):
        text = "The worker was held up until its lease on the delivery was about to end, so it did not send."
        return NoReply(Failure.LOCAL_FAULT, text, ErrorCode.LEASE_RAN_OUT)
    detail = words(cause)
    if isinstance(cause, UNUSABLE) and exchange.stage <= Stage.RESOLVE:
        return NoReply(Failure.LOCAL_FAULT, f"{url_from} holds an address that cannot be used.", ErrorCode.URL_UNUSABLE)
    if exchange.stage is Stage.START and isinstance(cause, ValueError):
        return NoReply(Failure.LOCAL_FAULT, "The request cannot be put together.")
    if exchange.via_proxy and exchange.stage < Stage.READY:
        found = _of_proxy(cause, exchange.stage, detail, proxy_from)
        if found is not None:
            return found
    if exchange.stage <= Stage.CONNECT and isinstance(cause, OSError) and cause.errno in OURS and not _is_name(cause):
        return NoReply(Failure.LOCAL_FAULT, f"This machine cannot open a connection: {detail}.")
    failure = failure_of(error, exchange.stage)
    return NoReply(failure, detail, ErrorCode.DNS_TIMEOUT if isinstance(cause, NameTimeout) else "")


def _of_proxy(cause: BaseException, stage: Stage, detail: str, proxy_from: str) -> NoReply | None:
    """Tell a proxy that is not there, or refuses, from one that cannot reach n8n."""
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
        text = f"The proxy of {proxy_from} did not answer as a proxy does: {detail}."
        return NoReply(Failure.LOCAL_FAULT, text, ErrorCode.PROXY_REFUSED)
    return None


def failure_of(error: BaseException, stage: Stage = Stage.START) -> Failure:
    """Name the way in which no reply came, from the cause of `requests`' exception and how far the exchange came.

    At `Stage.START` the exception alone decides, and a connection that broke counts as one that broke too late.
    """
    cause = _cause(error)
    if isinstance(cause, LocalFault | LeaseRanOut) or (isinstance(cause, UNUSABLE) and stage <= Stage.RESOLVE):
        return Failure.LOCAL_FAULT
    if isinstance(cause, socket.gaierror | urllib3.exceptions.NameResolutionError):
        return Failure.DNS_FAILURE
    timed_out = isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError)
    match stage:
        case Stage.START:
            return _by_type(error, cause, timed_out)
        case Stage.RESOLVE | Stage.CONNECT | Stage.PROXY | Stage.HANDSHAKE:
            return _before_sending(cause, stage, timed_out)
        case _ if _is_refusal_of_tls(cause):
            return Failure.TLS_ERROR
        case Stage.READY:
            return Failure.CONNECT_TIMEOUT if timed_out else Failure.CONNECTION_RESET
        case Stage.SEND:
            return Failure.SEND_INTERRUPTED
        case _:
            return Failure.READ_TIMEOUT if timed_out else Failure.CONNECTION_LOST_AFTER_SEND


def _before_sending(cause: BaseException, stage: Stage, timed_out: bool) -> Failure:
    shakes_hands = stage is Stage.HANDSHAKE
    if timed_out:
        return Failure.TLS_HANDSHAKE_TIMEOUT if shakes_hands else Failure.CONNECT_TIMEOUT
    if isinstance(cause, ConnectionResetError) or (shakes_hands and isinstance(cause, ConnectionError)):
        return Failure.CONNECTION_RESET
    return Failure.TLS_ERROR if shakes_hands else Failure.CONNECTION_REFUSED


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


def _is_refusal_of_tls(cause: BaseException) -> bool:
    """Whether a server turned our side of the handshake down, which in TLS 1.3 comes after the request was written."""
    return isinstance(cause, ssl.SSLError) and "ALERT" in (getattr(cause, "reason", "") or "")


def _is_name(cause: BaseException) -> bool:
    return isinstance(cause, socket.gaierror | ssl.SSLError)


def words(cause: BaseException) -> str:
    """Say what broke. The codes of TLS and of the resolver are not the operating system's."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"certificate verify failed: {cause.verify_message}"
    elif isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "reason", "") or ""
        text = reason.replace("_", " ").lower() or _SURROUNDINGS.sub("", str(cause.strerror or cause))
        if reason in NO_TLS:
            text += ": does this port speak TLS?"
    elif isinstance(cause, socket.gaierror):
        text = str(cause.strerror or cause)
    elif isinstance(cause, TimeoutError):
        text = "timed out"
    elif isinstance(cause, OSError) and cause.errno:
        text = os.strerror(cause.errno)
    elif isinstance(cause, http.client.IncompleteRead):
        text = "it closed within the headers of its answer"
    elif isinstance(cause, requests.RequestException | urllib3.exceptions.HTTPError):
        text = type(cause).__name__  # its text repeats the address, whose query may be a secret
    else:
        text = str(cause)
    return storable(text)[:DETAIL_LIMIT] or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    """Find what happened below `requests` and urllib3: the deepest of the causes that is theirs no more."""
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
    unusable = [one for one in found if isinstance(one, UNUSABLE)]
    return (local or unusable or foreign or found[-1:])[0]
