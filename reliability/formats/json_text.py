"""Lays out the text of a JSON document: indented, compact, or as coloured HTML.

It works on the tokens of the text, without building the document: keys keep their order, numbers their spelling, and
the cost depends only on what is shown. Invisible characters, and those that could change how text reads (control
characters, bidirectional overrides), are shown as JSON escapes.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from html import escape

# Characters that are shown.
LIMIT = 65_536
INDENT = "  "
DEEPEST = 24  # levels that are still indented in HTML
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
_NESTING = {"open": 1, "close": -1}
_CLASS = {"key": "k", "string": "s", "number": "n", "word": "w", "cut": "s"}


@dataclass(frozen=True, slots=True)
class Shown:
    """Safe HTML, and whether it is cut off. `is_json` is false for any other text."""

    html: str
    is_cut: bool
    is_json: bool


def indent(text: str) -> str:
    """Return the text with one member per line; text that is not JSON is returned as it is."""
    tokens = _tokens(text)
    if tokens is None:
        return text
    pieces, depth = [], 0
    for match in tokens:
        depth += _NESTING.get(match.lastgroup or "", 0)
        pieces.append(_laid_out(match, "\n" + INDENT * depth))
    return "".join(pieces)


def compact(text: str) -> str:
    """Return the text without white space between its tokens; text that is not JSON is returned as it is."""
    tokens = _tokens(text)
    if tokens is None:
        return text
    return "".join(
        "".join(match.group().split()) if match.lastgroup == "empty" else match.group()
        for match in tokens
        if match.lastgroup != "space"
    )


def visible(text: str) -> str:
    """Return the text with invisible characters, and those that change the reading direction, as JSON escapes."""
    return "".join(_escaped(one) if unicodedata.category(one) in ("Cf", "Cc") else one for one in text)


def _escaped(character: str) -> str:
    return character if character in "\n\r\t" else json.dumps(character)[1:-1]


def _tokens(text: str) -> list[re.Match[str]] | None:
    """Return all tokens; `None` if the text has none, or is not JSON to its end."""
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup == "cut":
            return None
        found.append(match)
        at = match.end()
    return found or None


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
        depth += _NESTING.get(match.lastgroup or "", 0)
        piece = _piece(match, max(depth, 0))
        found.append(piece)
        at, length = match.end(), length + len(piece)
        if length > most:
            return [*found, ""]
    return found or None


def _piece(match: re.Match[str], depth: int) -> str:
    kind = match.lastgroup or ""
    if kind in _CLASS:
        return f'<bdi class="{_CLASS[kind]}">{_escape_unseen(_readable(match.group()))}</bdi>'
    return _laid_out(match, "\n" + INDENT * min(depth, DEEPEST))


def _laid_out(match: re.Match[str], line: str) -> str:
    """Return a token with the white space around it; `line` begins a line at the present depth."""
    token = match.group()
    match match.lastgroup:
        case "space":
            return ""
        case "empty":
            return token[0] + token[-1]
        case "open":
            return token + line
        case "close":
            return line + token
        case "colon":
            return ": "
        case "comma":
            return "," + line
        case _:
            return token


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
