"""Reads JSON strictly, and keeps the text of an object's members.

It refuses anything but UTF-8, `NaN` and `Infinity`, a name given twice in an envelope, nesting beyond `DEPTH`, and what
PostgreSQL cannot store (a NUL, half of a surrogate pair). An escaped NUL within a text that is stored unchanged does no
harm: callers that store only such texts may allow it.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from json.scanner import make_scanner
from typing import Any, NoReturn, cast

from reliability.errors import InvalidInput

DEPTH = 100
# Python refuses a longer integer (sys.set_int_max_str_digits); other numbers get the same limit.
NUMBER_LENGTH = 4300
# Fifteen digits and a point: so few digits survive the way through a double unchanged, so they need no exact copy.
EXACT_LENGTH = 16
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")
_SPACE = re.compile(r"[ \t\n\r]*")
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class ExactNumber(float):
    """A number that no double represents exactly, with the sender's own spelling."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "ExactNumber":
        made = super().__new__(cls, text)
        made.text = text
        return made


def _float(text: str) -> float:
    """Read a number. One beyond the range of a double is refused: it could not be compared or written again."""
    if len(text) <= EXACT_LENGTH and "e" not in text and "E" not in text:
        return float(text)
    if len(text) > NUMBER_LENGTH:
        raise InvalidInput("The body contains a number that is too long.")
    value = float(text)
    if math.isinf(value):
        raise InvalidInput("The body contains a number that is too large.")
    return value if parts_of(text) == parts_of(repr(value)) else ExactNumber(text)


def parts_of(text: str) -> tuple[str, str, int]:
    """Return a number's sign, its digits without zeros at the ends, and its power of ten."""
    # The exponent is never expanded: `1e999999999` costs nothing.
    sign, whole, fraction, power = _NUMBER.fullmatch(text).groups("")  # type: ignore[union-attr]  # a JSON number
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "", "0", 0
    stripped = digits.rstrip("0")
    return sign, stripped, int(power or 0) - len(fraction) + len(digits) - len(stripped)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidInput(f"{name} is not JSON.")


# The scanner that `json` itself uses: it returns a value and the position behind it, which gives each member's own
# text.
_scan_once: Callable[[str, int], tuple[Any, int]] = cast(Any, make_scanner)(
    json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_float)
)


def text_of(body: bytes) -> str:
    """Decode a request body. Raises `InvalidInput`."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The body is not UTF-8.") from None


def load(text: str, *, with_nul: bool = False, unsound: bool = False) -> Any:
    """Read one JSON value. Raises `InvalidInput`, which says what is wrong and where.

    `with_nul` allows NULs in strings; `unsound` allows everything that cannot be stored.
    """
    value, end = _scan(text, _skip(text, 0))
    if _skip(text, end) != len(text):
        at = _where(text, _skip(text, end))
        raise InvalidInput(f"The body is not JSON: there is text after its end ({at}).")
    _check(value, text, with_nul=with_nul, unsound=unsound)
    return value


def members(text: str) -> dict[str, str]:
    """Return the text of each member of an object, as the sender wrote it. Call `load` on the text first."""
    found: dict[str, str] = {}
    for name, member in _members(text):
        if name in found:
            raise InvalidInput(f"'{name}' is given twice.", errors={name: ["Given twice."]})
        found[name] = member
    return found


def items(text: str) -> list[str]:
    """Return the text of each item of an array. Call `load` on the text first."""
    found, at = [], _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        _, end = _scan(text, at)
        found.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _members(text: str) -> Iterator[tuple[str, str]]:
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, end = _scan(text, at)
        at = _skip(text, _skip(text, end) + 1)
        _, end = _scan(text, at)
        yield name, text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _scan(text: str, at: int) -> tuple[Any, int]:
    try:
        return _scan_once(text, at)
    except StopIteration as error:
        raise InvalidInput(f"The body is not JSON: a value is missing ({_where(text, error.value)}).") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"The body is not JSON: {error.msg} ({_where(text, error.pos)}).") from None
    except RecursionError:
        raise InvalidInput(f"The body is nested more than {DEPTH} levels deep.") from None
    except ValueError:
        raise InvalidInput("The body contains a number that is too long.") from None


def _where(text: str, at: int) -> str:
    """Return a position as line and column, both from 1."""
    return f"line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"


def _check(value: Any, text: str, *, with_nul: bool, unsound: bool) -> None:
    """Check depth and strings, but only where the text gives a reason: both walk the whole value."""
    if text.count("[") + text.count("{") > DEPTH and _depth(value) > DEPTH:
        raise InvalidInput(f"The body is nested more than {DEPTH} levels deep.")
    if not unsound and _SUSPECT.search(text):
        for string in _strings(value):
            _check_string(string, with_nul=with_nul)


def _check_string(string: str, *, with_nul: bool) -> None:
    if "\x00" in string and not with_nul:
        raise InvalidInput("A string contains a NUL, which cannot be stored.")
    try:
        string.encode()
    except UnicodeEncodeError:
        raise InvalidInput("A string contains half of a surrogate pair, which cannot be stored.") from None


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        nested = [one for one in level if isinstance(one, dict | list)]
        depth += bool(nested)
        level = [child for one in nested for child in (one.values() if isinstance(one, dict) else one)]
    return depth


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            yield from one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
