"""The registry of failures: each error code that Backstop assigns, its reason, and the reason's label.

A code without a reason, or a reason without a label, fails at import. Codes of HTTP responses (`http_<status>…`) are
open-ended and follow rules; an API caller may report codes of its own.
"""

import enum
from typing import Self


class Reason(enum.StrEnum):
    """Why a delivery failed permanently, as few kinds with a label for people."""

    label: str

    def __new__(cls, value: str, label: str) -> Self:
        member = str.__new__(cls, value)
        member._value_, member.label = value, label
        return member

    HTTP_4XX = "http_4xx", "HTTP 4xx"
    HTTP_5XX = "http_5xx", "HTTP 5xx"
    TIMEOUT = "timeout", "Timeout"
    CONNECTION = "connection", "Connection failure"
    MISCONFIGURED = "misconfigured", "Misconfiguration"
    REFUSED = "refused", "Refused by a gateway"
    UNKNOWN_OUTCOME = "unknown_outcome", "Unknown outcome"
    EXPIRED = "expired", "Expired"
    EXECUTION = "execution", "Execution failed"
    REPORTED = "reported", "Reported through the API"


class ErrorCode(enum.StrEnum):
    """An error code that Backstop assigns, with its reason. The modules that assign codes refer to these members."""

    reason: Reason

    def __new__(cls, value: str, reason: Reason) -> Self:
        member = str.__new__(cls, value)
        member._value_, member.reason = value, reason
        return member

    HTTP_401 = "http_401", Reason.MISCONFIGURED
    HTTP_403_CREDENTIALS = "http_403_credentials", Reason.MISCONFIGURED
    HTTP_404_NOT_REGISTERED = "http_404_not_registered", Reason.MISCONFIGURED
    HTTP_405 = "http_405", Reason.MISCONFIGURED
    HTTP_407 = "http_407", Reason.MISCONFIGURED
    HTTP_421 = "http_421", Reason.MISCONFIGURED
    HTTP_451 = "http_451", Reason.MISCONFIGURED
    LOCAL_FAULT = "local_fault", Reason.MISCONFIGURED
    LEASE_RAN_OUT = "lease_ran_out", Reason.MISCONFIGURED
    HEADER_UNSENDABLE = "header_unsendable", Reason.MISCONFIGURED
    URL_UNUSABLE = "url_unusable", Reason.MISCONFIGURED
    CA_BUNDLE_MISSING = "ca_bundle_missing", Reason.MISCONFIGURED
    CA_BUNDLE_UNUSABLE = "ca_bundle_unusable", Reason.MISCONFIGURED
    PROXY_UNUSABLE = "proxy_unusable", Reason.MISCONFIGURED
    PROXY_UNREACHABLE = "proxy_unreachable", Reason.MISCONFIGURED
    PROXY_REFUSED = "proxy_refused", Reason.MISCONFIGURED
    HTTP_403 = "http_403", Reason.REFUSED
    HTTP_413 = "http_413", Reason.REFUSED
    HTTP_414 = "http_414", Reason.REFUSED
    HTTP_431 = "http_431", Reason.REFUSED
    READ_TIMEOUT = "read_timeout", Reason.TIMEOUT
    CONNECT_TIMEOUT = "connect_timeout", Reason.TIMEOUT
    CALLBACK_TIMEOUT = "callback_timeout", Reason.TIMEOUT
    TLS_HANDSHAKE_TIMEOUT = "tls_handshake_timeout", Reason.TIMEOUT
    CONNECTION_REFUSED = "connection_refused", Reason.CONNECTION
    CONNECTION_RESET = "connection_reset", Reason.CONNECTION
    CONNECTION_ERROR = "connection_error", Reason.CONNECTION
    DNS_FAILURE = "dns_failure", Reason.CONNECTION
    DNS_TIMEOUT = "dns_timeout", Reason.CONNECTION
    TLS_ERROR = "tls_error", Reason.CONNECTION
    SEND_INTERRUPTED = "send_interrupted", Reason.CONNECTION
    CONNECTION_LOST_AFTER_SEND = "connection_lost_after_send", Reason.CONNECTION
    N8N_STARTING = "n8n_starting", Reason.CONNECTION
    DATABASE_NOT_READY = "database_not_ready", Reason.CONNECTION
    ROUTES_NOT_MOUNTED = "routes_not_mounted", Reason.CONNECTION
    OUTCOME_UNKNOWN = "outcome_unknown", Reason.UNKNOWN_OUTCOME
    WORKER_LOST = "worker_lost", Reason.UNKNOWN_OUTCOME
    EXPIRED = "expired", Reason.EXPIRED
    EXECUTION_FAILED = "execution_failed", Reason.EXECUTION
    EXECUTION_CRASHED = "execution_crashed", Reason.EXECUTION
    TRIGGER_FAILED = "trigger_failed", Reason.EXECUTION
    REPORTED_FAILED = "reported_failed", Reason.EXECUTION


_REASONS = {str(code): code.reason for code in ErrorCode}
_LABELS = {str(reason): reason.label for reason in Reason}


def reason_of(*, code: str) -> Reason:
    """Return the reason that an error code belongs to. An unknown code was reported by a caller of the API."""
    if known := _REASONS.get(code):
        return known
    if code.startswith("http_3") or (code.startswith("http_4") and code.endswith("_not_json")):
        return Reason.MISCONFIGURED
    if code.startswith("http_4"):
        return Reason.HTTP_4XX
    if code.startswith("http_5"):
        return Reason.HTTP_5XX
    # Reports of other n8n failures, such as "execution_timeout", are executions, too.
    return Reason.EXECUTION if code.startswith(("execution_", "trigger_")) else Reason.REPORTED


def reason_label(reason: str) -> str:
    """Return the label of a stored reason; empty for an empty or unknown one."""
    return _LABELS.get(reason, "")
