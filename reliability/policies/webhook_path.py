"""Webhook paths: how people and n8n write them, how they are stored, and how they are sent.

n8n decodes a request's path once and compares it with the path of its Webhook node. A path is stored as it was entered.
Percent-encoded parts are sent unchanged; any other character that a URL cannot hold is encoded once, as UTF-8.
"""

import re
from urllib.parse import quote, unquote

# Characters that stay as they are: those of a path in RFC 3986, without quotes and brackets, which people put around
# it.
_SAFE = "/:@!$&+,;=~-._%"
_ENCODED = r"%[0-9A-Fa-f]{2}"


def encode(path: str) -> str:
    """Return a path as it is sent in a URL."""
    return quote(re.sub(rf"%(?!{_ENCODED[1:]})", "%25", path), safe=_SAFE)


def decode(path: str) -> str:
    """Return the path that n8n sees."""
    return unquote(path, errors="replace")


def from_node(path: str) -> str:
    """Return the path that reaches a Webhook node whose own path is `path`.

    A node's path is never percent-encoded: a `%20` in it is those three characters.
    """
    return re.sub(rf"%(?={_ENCODED[1:]})|[\s?#\\]", lambda found: quote(found[0], safe=""), path)


def problem(path: str) -> str:
    """Return what is wrong with a path; empty if nothing is."""
    seen = decode(path)
    if not path.strip("/"):
        return "The webhook path is required."
    if re.search(r"[\s?#\\]", path):
        return "It holds white space, '?', '#' or '\\': percent-encode them where they belong to the path."
    if "//" in path:
        return "It contains '//'."
    if "\ufffd" in seen:
        return "Its percent-encoded part is not text in UTF-8."
    if not seen.isprintable():
        return "It contains a control character."
    if {".", ".."} & {*re.split(r"[/\\]", seen)}:  # they would lead out of n8n's webhooks
        return "A path has no part that is '.' or '..', percent-encoded or not."
    return ""
