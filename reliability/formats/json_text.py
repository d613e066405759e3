"""Shows the text of a JSON document as coloured HTML; the text may be from anyone.

It works on tokens and does not parse the document: keys keep the sender's order, numbers their spelling, and neither
size nor nesting costs more than what is shown. Invisible characters, and those that can make text read as other text
(control characters, bidirectional overrides), are shown as escapes.
"""

import json
import re
from dataclasses import dataclass
from html import escape

# Characters that are shown.
LIMIT = 65_536
DEEPEST = 24  # levels that are still indented
# Possessive quantifiers: no backtracking, so a hostile text costs no more time than another.
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]++)
    |(?P<key>"[^"\\]*+(?:\\.[^"\\]*+)*+"(?=[ \t\r\n]*+:))
    |(?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")
    |(?P<number>-?[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)
    |(?P<word>true|false|null)
    |(?P<empty>\{[ \t\r\n]*+\}|\[[ \t\r\n]*+\])
    |(?P<open>[\[{])
    |(?P<close>[\]}])
    |(?P<colon>:)
    |(?P<comma>,)
    |(?P<cut>"[^"\\]*+(?:\\.[^"\\]*+)*+\\?\Z|-\Z|[a-z]{1,4}\Z)""",
    re.VERBOSE | re.DOTALL,
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_CLASS = {"key": "k", "string": "s", "number": "n", "word": "w", "cut": "s"}


@dataclass(frozen=True, slots=True)
class Shown:
    """Safe HTML, whether the text was cut, and whether it is JSON."""

    html: str
    is_cut: bool
    is_json: bool


def show(text: str, *, limit: int = LIMIT) -> Shown:
    """Show the first `limit` characters of a text."""
    begin = text[:limit]
    # Each character may become a `<bdi>` or an escape: the HTML is limited too.
    pieces = _pieces(begin, limit * 12)
    if pieces is None:
        return Shown(_escape_unseen(begin), len(text) > limit, is_json=False)
    is_long = pieces[-1] == ""
    return Shown("".join(pieces), len(text) > limit or is_long, is_json=True)


def plain(text: str) -> str:
    """Escape a text that is not JSON, with invisible characters shown as escapes."""
    return _escape_unseen(text)


def _pieces(text: str, most: int) -> list[str] | None:
    """Return the HTML in pieces, with an empty last one if it was too long; `None` if the text is not JSON."""
    found: list[str] = []
    at = depth = length = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or (match.lastgroup == "cut" and match.end() != len(text)):
            return None
        depth += {"open": 1, "close": -1}.get(match.lastgroup or "", 0)
        piece = _piece(match, max(depth, 0))
        found.append(piece)
        at, length = match.end(), length + len(piece)
        if length > most:
            return [*found, ""]
    return found or None


def _piece(match: re.Match[str], depth: int) -> str:
    kind, token = match.lastgroup or "", match.group()
    line = "\n" + "  " * min(depth, DEEPEST)
    if kind in _CLASS:
        return f'<bdi class="{_CLASS[kind]}">{_escape_unseen(_readable(token))}</bdi>'
    if kind == "empty":
        return token[0] + token[-1]
    return {"space": "", "open": token + line, "close": line + token, "colon": ": ", "comma": "," + line}[kind]


def _readable(token: str) -> str:
    r"""Return a string's token with `\u00e9` written as the letter that it is."""
    if "\\u" not in token:
        return token
    try:
        return json.dumps(json.loads(token), ensure_ascii=False)
    except ValueError:
        return token


def _escape_unseen(text: str) -> str:
    return _UNSEEN.sub(lambda one: f'<span class="u">\\u{ord(one.group()):04x}</span>', escape(text))
