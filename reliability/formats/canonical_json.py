"""The canonical text of a JSON value: key order, white space, escapes and the spelling of numbers do not change it.

Numbers are compared by their exact decimal value: `1`, `1.0`, `1e0` and `10E-1` are one number, `-0` is `0`, and
`0.1000000000000000055511151231257827` is not `0.1`, although both are the same double.
"""

import json
from typing import Any

from .strict_json import ExactNumber, parts_of

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
# Marks a number that is written as a string. Half of a surrogate pair cannot be in any JSON text that Backstop accepts,
# so no sender's string can be equal to it.
_MARK = "\ud800"
_SAFE = 2.0**53  # below it, a double that is an integer is exactly that
_MAY_HOLD = frozenset({dict, list, ExactNumber})


def canonical(document: Any) -> str:
    """Return the canonical text of a JSON value: ASCII, with the shortest exact spelling of numbers."""
    # Most payloads need no change: checking first spares the copy, which matters on the hot path of accepting.
    plain = dict(document) if isinstance(document, dict) else document
    return _encode(_respelled(plain) if _has_other_spelling(plain) else document)


def _has_other_spelling(value: Any) -> bool:
    """Whether the value has a number whose canonical spelling is not what Python writes."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is float:
        return bool(value.is_integer())
    elif kind is not list:
        return kind is ExactNumber
    for one in value:
        kind = type(one)
        if kind is float:
            if one.is_integer():
                return True
        elif kind in _MAY_HOLD and _has_other_spelling(one):
            return True
    return False


def _respelled(value: Any) -> Any:
    """Return a copy of a value with each number in its canonical spelling."""
    kind = type(value)
    if kind is dict:
        copied, members = value.copy(), value.items()
    elif kind is list:
        copied, members = value.copy(), enumerate(value)
    else:
        return _number(value) if kind is ExactNumber or (kind is float and value.is_integer()) else value
    for name, one in members:
        kind = type(one)
        if kind is float:
            if one.is_integer():
                copied[name] = int(one) if -_SAFE < one < _SAFE else _number(one)
        elif kind in _MAY_HOLD:
            copied[name] = _respelled(one)
    return copied


def _number(value: float) -> Any:
    """Return an integer if the number is one, else its digits and exponent as marked text."""
    if -_SAFE < value < _SAFE and type(value) is float:
        return int(value)
    sign, digits, exponent = parts_of(value.text if isinstance(value, ExactNumber) else repr(value))
    if exponent >= 0:  # no more digits than a double can have: what is larger has been refused
        return int(sign + digits + "0" * exponent)
    return f"{_MARK}{sign}{digits}e{exponent}"
