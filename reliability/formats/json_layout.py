"""Indents or compacts JSON text and changes nothing else: keys keep their order, and numbers their spelling.

The text must be readable by `json`; any other text is returned unchanged.
"""

import json
import re
import unicodedata

INDENT = "  "
# Possessive quantifiers (`*+`): no backtracking, so the time is linear in the text, whatever it is.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++|\s++', re.DOTALL)


def indent(text: str) -> str:
    """Return the text with one member per line."""
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
    """Return the text with invisible characters and bidirectional overrides as JSON escapes."""
    return "".join(_escaped(one) if unicodedata.category(one) in ("Cf", "Cc") else one for one in text)


def _escaped(character: str) -> str:
    return character if character in "\n\r\t" else json.dumps(character)[1:-1]


def _tokens(text: str) -> list[str]:
    found = _TOKEN.findall(text)
    if sum(map(len, found)) != len(text):  # a quotation mark without its end
        return [text]
    return [token for token in found if not token.isspace()]
