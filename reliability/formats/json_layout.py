"""Lays out JSON text anew, and changes nothing else in it: keys keep their order, and numbers how they were written.

Text goes in that `json` can read; what it cannot read comes back as it was.
"""

import json
import re
import unicodedata

INDENT = "  "
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++|\s++', re.DOTALL)


def indent(text: str) -> str:
    """Return the text with one member a line."""
    tokens = _tokens(text)
    pieces: list[str] = []
    depth = 0
    for place, piece in enumerate(tokens):
        last, ahead = tokens[place - 1] if place else "", tokens[place + 1] if place + 1 < len(tokens) else ""
        if piece in "}]":
            depth -= 1
            pieces.append(piece if last in ("{", "[") else f"\n{INDENT * depth}{piece}")
            continue
        pieces.append({",": f",\n{INDENT * depth}", ":": ": "}.get(piece, piece))
        if piece in "{[":
            depth += 1
            pieces.append("" if ahead in ("}", "]") else f"\n{INDENT * depth}")
    return "".join(pieces)


def compact(text: str) -> str:
    """Return the text without white space between its tokens."""
    return "".join(_tokens(text))


def visible(text: str) -> str:
    """Return the text with what cannot be seen, or would turn the reading round, as JSON's escape for it."""
    return "".join(_escaped(one) if unicodedata.category(one) in ("Cf", "Cc") else one for one in text)


def _escaped(character: str) -> str:
    return character if character in "\n\r\t" else json.dumps(character)[1:-1]


def _tokens(text: str) -> list[str]:
    found = _TOKEN.findall(text)
    if sum(map(len, found)) != len(text):  # a quotation mark without its end
        return [text]
    return [token for token in found if not token.isspace()]
