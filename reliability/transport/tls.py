"""CA bundles, and the TLS contexts that verify servers' certificates with them."""

import os
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from reliability.policies.error_codes import ErrorCode

from .local_fault import LocalFault

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# More than one: a bundle that is replaced gets a new context, and https proxies have their own.
CONTEXTS = 8

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Bundle:
    """The path of the CA bundle and the variable that names it; both are empty for the one of `requests`."""

    path: str = ""
    variable: str = ""


class Context(ssl.SSLContext):
    """A TLS context that all threads share."""

    # Workaround: urllib3 sets the ALPN protocols again for each connection, which OpenSSL does not allow while another
    # thread connects with the same context. So only the first call has an effect.
    _is_ready = False

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        if not self._is_ready:
            super().set_alpn_protocols(alpn_protocols)
            self._is_ready = True


def bundle() -> Bundle:
    """Return the CA bundle that the environment names."""
    for variable in VARIABLES:
        if path := os.environ.get(variable, ""):
            return Bundle(path, variable)
    return Bundle()


def context(path: str) -> ssl.SSLContext:
    """Return the TLS context for a CA file or directory. Raises `LocalFault`, which names the variable."""
    where = Path(path or DEFAULT_CA_BUNDLE_PATH)
    try:
        stat = where.stat()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {os.strerror(error.errno or 0)}", missing=True) from None
    # The time and size are part of the cache key, so that a replaced bundle is loaded again. The lock keeps threads
    # from loading the same bundle at once: that takes milliseconds of CPU each.
    with _lock:
        return _context(path, where, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=CONTEXTS)
def _context(path: str, where: Path, _modified: int, _size: int) -> ssl.SSLContext:
    made = Context(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_COMPRESSION
    made.hostname_checks_common_name = False
    made.set_alpn_protocols(["http/1.1"])
    try:
        if where.is_dir():
            if not any(where.glob("*.[0-9]")):
                raise _unusable(path, "is a directory without hashed certificates (see `openssl rehash`)")
            made.load_verify_locations(capath=where)
        else:
            made.load_verify_locations(cafile=where)
    except (ssl.SSLError, OSError) as error:
        missing = isinstance(error, FileNotFoundError | PermissionError)
        why = f"cannot be read: {os.strerror(error.errno or 0)}" if missing else "holds no certificate"
        raise _unusable(path, why, missing=missing) from None
    return made


def _unusable(path: str, why: str, *, missing: bool = False) -> LocalFault:
    name = bundle().variable if path else "the certificate authorities of `requests`"
    code = ErrorCode.CA_BUNDLE_MISSING if missing else ErrorCode.CA_BUNDLE_UNUSABLE
    return LocalFault(code, f"{name or 'The CA bundle'}: {path or DEFAULT_CA_BUNDLE_PATH} {why}.")
