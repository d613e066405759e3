"""Reads JSON that nobody sends a second time: what can be read is kept, and what cannot be stored is replaced.

Bytes that are not UTF-8, a NUL and half of a surrogate pair become U+FFFD. What is nested deeper than `DEPTH` levels
becomes `[too deep]`. A number beyond a double, or an integer of more than 4,300 digits, becomes its own text.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from reliability.errors import InvalidInput

from .storable import storable_json
from .strict_json import DEPTH, NUMBER_LENGTH

TOO_DEEP = '"[too deep]"'
_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


def load(body: bytes) -> Any:
    """Read a JSON value. Raises `InvalidInput` if the body is not JSON."""
    text = body.decode("utf-8-sig", "replace")
    if text.count("[") + text.count("{") > DEPTH:
        text = "".join(_pruned(text))
    try:
        return storable_json(_decoder.decode(text), text=text)
    except (ValueError, RecursionError):
        raise InvalidInput("The body is not JSON.") from None


def _pruned(text: str) -> Iterator[str]:
    """Yield a text in pieces, with what is too deep replaced."""
    # Before parsing: `json` is recursive, and would fail for the whole text.
    depth = kept = 0
    for match in _BRACKET.finditer(text):
        token = match.group()
        if token in ("[", "{"):
            depth += 1
            if depth == DEPTH + 1:
                yield text[kept : match.start()]
        elif token in ("]", "}"):
            if depth == DEPTH + 1:
                yield TOO_DEEP
                kept = match.end()
            depth -= 1
    yield text[kept:]


def _integer(text: str) -> Any:
    return int(text) if len(text) <= NUMBER_LENGTH else text


def _float(text: str) -> Any:
    value = float(text)
    return text if math.isinf(value) else value


# Not strict: hand-made n8n expressions leave raw line breaks in strings.
_decoder = json.JSONDecoder(strict=False, parse_constant=str, parse_int=_integer, parse_float=_float)
