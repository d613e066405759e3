"""What failed the same way: the reason of a failure, and a fingerprint of its error.

The fingerprint leaves out what differs from one failure to the next of the same kind: numbers, ids, quoted text,
addresses, times. What is left is the group that an operator looks at.
"""

import enum
import hashlib
import re

# Of a long error only the beginning tells its kind.
TEXT_LIMIT = 2000
LENGTH = 16


class Reason(enum.StrEnum):
    """Why something is dead, in few kinds."""

    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    MISCONFIGURED = "misconfigured"
    REFUSED = "refused"
    UNKNOWN_OUTCOME = "unknown_outcome"
    EXPIRED = "expired"
    EXECUTION = "execution"
    REPORTED = "reported"


LABELS = {
    Reason.HTTP_4XX: "HTTP 4xx",
    Reason.HTTP_5XX: "HTTP 5xx",
    Reason.TIMEOUT: "Timeout",
    Reason.CONNECTION: "Connection",
    Reason.MISCONFIGURED: "Misconfigured",
    Reason.REFUSED: "Refused by a gateway",
    Reason.UNKNOWN_OUTCOME: "Unknown outcome",
    Reason.EXPIRED: "Expired",
    Reason.EXECUTION: "Execution failed",
    Reason.REPORTED: "Reported",
}
_CODES = {
    "http_401": Reason.MISCONFIGURED,
    "http_403_credentials": Reason.MISCONFIGURED,
    "http_404_not_registered": Reason.MISCONFIGURED,
    "http_405": Reason.MISCONFIGURED,
    "http_407": Reason.MISCONFIGURED,
    "http_421": Reason.MISCONFIGURED,
    "http_451": Reason.MISCONFIGURED,
    "http_403": Reason.REFUSED,
    "http_413": Reason.REFUSED,
    "http_414": Reason.REFUSED,
    "http_431": Reason.REFUSED,
    "read_timeout": Reason.TIMEOUT,
    "connect_timeout": Reason.TIMEOUT,
    "callback_timeout": Reason.TIMEOUT,
    "connection_refused": Reason.CONNECTION,
    "connection_reset": Reason.CONNECTION,
    "connection_error": Reason.CONNECTION,
    "dns_failure": Reason.CONNECTION,
    "dns_timeout": Reason.CONNECTION,
    "tls_error": Reason.CONNECTION,
    "tls_handshake_timeout": Reason.TIMEOUT,
    "send_interrupted": Reason.CONNECTION,
    "connection_lost_after_send": Reason.CONNECTION,
    "local_fault": Reason.MISCONFIGURED,
    "lease_ran_out": Reason.MISCONFIGURED,
    "header_unsendable": Reason.MISCONFIGURED,
    "url_unusable": Reason.MISCONFIGURED,
    "ca_bundle_missing": Reason.MISCONFIGURED,
    "ca_bundle_unusable": Reason.MISCONFIGURED,
    "proxy_unusable": Reason.MISCONFIGURED,
    "proxy_unreachable": Reason.MISCONFIGURED,
    "proxy_refused": Reason.MISCONFIGURED,
    "n8n_starting": Reason.CONNECTION,
    "database_not_ready": Reason.CONNECTION,
    "routes_not_mounted": Reason.CONNECTION,
    "outcome_unknown": Reason.UNKNOWN_OUTCOME,
    "worker_lost": Reason.UNKNOWN_OUTCOME,
    "expired": Reason.EXPIRED,
}
_EXECUTION = ("execution_", "trigger_", "reported_failed")
# In this order: what is long and particular before what is short.
_VARIABLE = (
    (re.compile(r"https?://\S+"), "<url>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<mail>"),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”|«[^»]*»"), "<text>"),
    (re.compile(r"\b[a-z]{2,}_[A-Za-z0-9]{6,}\b"), "<id>"),
    (re.compile(r"\b(?=[A-Za-z]*\d)[A-Za-z0-9_-]{12,}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{16,}\b"), "<id>"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)


def reason_of(*, code: str) -> Reason:
    """Return the kind that an error code belongs to; what nobody here made up was reported by somebody else."""
    if code in _CODES:
        return _CODES[code]
    if code.startswith("http_3") or (code.startswith("http_4") and code.endswith("_not_json")):
        return Reason.MISCONFIGURED
    if code.startswith("http_4"):
        return Reason.HTTP_4XX
    if code.startswith("http_5"):
        return Reason.HTTP_5XX
    return Reason.EXECUTION if code.startswith(_EXECUTION) else Reason.REPORTED


def template_of(*, message: str) -> str:
    """Return the error's text without what differs from one failure to the next."""
    text = message[:TEXT_LIMIT]
    for pattern, stand_in in _VARIABLE:
        text = pattern.sub(stand_in, text)
    return text.strip()


def fingerprint_of(*, code: str, message: str) -> str:
    """Return `LENGTH` hex digits that failures of one kind share."""
    text = f"{code}\n{template_of(message=message)}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:LENGTH]
