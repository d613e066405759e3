"""Fingerprints of errors: failures of the same kind share one, and so form a failure group.

A fingerprint leaves out what varies between failures of one kind: numbers, ids, quoted text, addresses, times.
"""

import hashlib
import re

# Only the start of a long error tells its kind.
TEXT_LIMIT = 2000
LENGTH = 16


# In this order: long, specific patterns before short ones.
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


def template_of(*, message: str) -> str:
    """Return an error's text with its variable parts replaced by placeholders."""
    text = message[:TEXT_LIMIT]
    for pattern, stand_in in _VARIABLE:
        text = pattern.sub(stand_in, text)
    return text.strip()


def fingerprint_of(*, code: str, message: str) -> str:
    """Return the fingerprint of an error, `LENGTH` hex digits."""
    text = f"{code}\n{template_of(message=message)}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:LENGTH]
