r"""Reads a file of `NAME=value` lines, such as `.env`.

A line may begin with `export`, and have spaces around `=`. A value is used as it is, without expanding `$`; quotes
around it are removed. Without quotes it ends at a `#` after white space; within double quotes, `\"` and `\\` mean `"`
and `\`. Other lines are blank or begin with `#`.

python-dotenv differs: it takes `A= # words` for a value, a lone `A` for no value, and `\n` in double quotes for a line
break.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=(?P<rest>.*)", re.DOTALL)
_QUOTED = re.compile(r"""\s*(?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)")\s*(?:(?<=\s)\#.*)?""", re.DOTALL)


def read(path: Path) -> tuple[dict[str, str], list[int]]:
    """Return the variables of a file (the last value of a repeated one), and the numbers of invalid lines.

    Only the numbers, since an invalid line may contain a secret. Raises `OSError`, and `UnicodeDecodeError` for a file
    that is not UTF-8 text.
    """
    found: dict[str, str] = {}
    wrong = []
    for number, line in enumerate(_lines(path.read_bytes().decode("utf-8-sig")), start=1):
        try:
            found |= parse(line)
        except ValueError:
            wrong.append(number)
    return found, wrong


def parse(line: str) -> dict[str, str]:
    """Return the variable of a line; an empty dictionary without one. Raises `ValueError` for an invalid line."""
    if not line.strip() or line.lstrip().startswith("#"):
        return {}
    found = _LINE.fullmatch(line)
    if found is None or "\0" in line:
        raise ValueError
    return {found["name"]: _value(found["rest"])}


def _lines(text: str) -> Iterator[str]:
    """Split at line feeds only: other line breaks of Unicode belong to values."""
    return (line.removesuffix("\r") for line in text.split("\n"))


def _value(rest: str) -> str:
    if rest.lstrip()[:1] not in ("'", '"'):
        return re.split(r"\s#", rest, maxsplit=1)[0].strip()
    found = _QUOTED.fullmatch(rest)
    if found is None:
        raise ValueError
    if found["single"] is not None:
        return found["single"]
    return re.sub(r'\\(["\\])', r"\1", found["double"])
