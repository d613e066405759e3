"""Text that PostgreSQL can store: a JSON string may contain, as an escape, what `text` cannot."""

import re
from typing import Any

REPLACEMENT = "�"
# Valid JSON text contains what cannot be stored only as these escapes (NUL, surrogates): the rest need not be searched.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def storable(text: str) -> str:
    """Replace each NUL and each half of a surrogate pair by U+FFFD."""
    clean = text.replace("\x00", REPLACEMENT)
    return clean if clean.isascii() else clean.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def storable_json(value: Any, *, text: str) -> Any:
    """Make all strings of a JSON value storable, names included; `text` is what it was read from.

    Raises `RecursionError` for what is nested too deep.
    """
    return _cleaned(value) if _SUSPECT.search(text) or "\x00" in text else value


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): _cleaned(one) for name, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else value
