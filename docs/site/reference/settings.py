"""Every environment variable: kind, range and default as the code reads it; its meaning from the documents' tables."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .tables import code, table

KINDS = {
    "text": "text",
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "decimal": "number",
    "words": "list, separated by commas",
    "url": "http or https address",
    "addresses": "mail addresses, separated by commas",
    "mail": "a mail server's address",
    "slug": "slug",
    "choice": "one of",
    "mapping": "JSON object",
    "database": "PostgreSQL address",
}
ROOMS = ("config", "reliability", "scheduling")
NOT_OURS = {"DJANGO_SETTINGS_MODULE"}
INTRODUCTION = """\
# Settings, name by name

Every environment variable that Backstop reads. By subject, and with the shape of workflow files, they are in
[Configuration](../configuration.md). A file `.env` beside `manage.py` is read too; the environment wins. A value that
cannot be read, or lies outside its range, stops the start and is named.

"""


@dataclass(frozen=True)
class Variable:
    """One variable: its kind and range in words, and the default as the code has it (`None`: not known there)."""

    name: str
    kind: str
    range: str = ""
    default: str | None = None


@dataclass(frozen=True)
class Described:
    """What a document says of a variable."""

    default: str
    meaning: str


def record() -> dict[str, Variable]:
    """Load config.settings, and return what it read from the environment, by name."""
    from config import env

    found: dict[str, Variable] = {}
    readers = {name: one for name, one in vars(env).items() if _is_reader(name, one)}
    inside = [False]  # a reader that is built on another is what counts
    for name, reader in readers.items():
        setattr(env, name, _recording(name, reader, found, inside))
    try:
        import config.settings  # noqa: F401  # read for what it reads
    finally:
        for name, reader in readers.items():
            setattr(env, name, reader)
    return found


def _is_reader(name: str, one: Any) -> bool:
    """Say whether it reads the variable that its first argument names."""
    ours = getattr(one, "__module__", "") == "config.env" and callable(one) and not name.startswith("_")
    return ours and name != "problem" and [*inspect.signature(one).parameters][:1] == ["name"]


def _recording(
    kind: str, reader: Callable[..., Any], found: dict[str, Variable], inside: list[bool]
) -> Callable[..., Any]:
    def reading(name: str, *values: Any, **options: Any) -> Any:
        if inside[0]:
            return reader(name, *values, **options)
        inside[0] = True
        try:
            answer = reader(name, *values, **options)
        finally:
            inside[0] = False
        # `DATABASE_URL` is read twice; the second time as what it is.
        if name not in found or found[name].kind == KINDS["text"]:
            told = inspect.signature(reader).bind(name, *values, **options).arguments
            found[name] = _variable(name, kind, told)
        return answer

    return reading


def _variable(name: str, kind: str, told: dict[str, Any]) -> Variable:
    """Return what a reader's own arguments say of a variable."""
    default, low, high = told.get("default", ""), told.get("low"), told.get("high")
    allowed = next((told[one] for one in ("choices", "allowed", "among") if one in told), ())
    span = (
        f"{_number(low)} to {_number(high)}"
        if low is not None and high is not None
        else ", ".join(code(str(one)) for one in allowed)
    )
    return Variable(name, KINDS.get(kind, kind.replace("_", " ")), span, None if kind == "database" else _said(default))


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)


def elsewhere(root: Path) -> set[str]:
    """Return the names that are read from `os.environ` itself."""
    paths = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    return {name for path in paths for name in _names(path)} - NOT_OURS


def _names(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        asked = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
            asked = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            asked = node.slice
        if isinstance(asked, ast.Constant) and isinstance(asked.value, str):
            found.add(asked.value)
    return found


def described(root: Path) -> dict[str, Described]:
    """Return what the documents' tables say of variables, by name; docs/configuration.md has the last word."""
    pages = sorted((root / "docs").glob("*.md"), key=lambda path: path.stem == "configuration")
    return {name: said for path in pages for name, said in _rows(path)}


def _rows(path: Path) -> Iterator[tuple[str, Described]]:
    """Yield the rows of a page's tables `variable | default | meaning`. A row may be about several, in one order."""
    heading = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            heading = ""
        elif cells[:2] == ["variable", "default"]:
            heading = cells[-1]
        names = re.findall(r"`([A-Z][A-Z0-9_]*(?:<SLUG>)?)`", cells[0])
        if not heading or len(cells) != 3:
            continue
        meaning = cells[2] if heading == "meaning" else f"{heading}: {cells[2]}"
        defaults = cells[1].split(", ") if len(names) > 1 and cells[1] else [cells[1]] * len(names)
        for name, default in zip_longest(names, defaults[: len(names)], fillvalue=""):
            yield name, Described(default, meaning)


def page(*, variables: dict[str, Variable], root: Path) -> str:
    """Return the page: one table, by name."""
    words = described(root)
    names = sorted({*variables, *elsewhere(root), *words})
    rows = [_row(variables.get(name, Variable(name, "text")), words.get(name)) for name in names]
    return INTRODUCTION + table(("variable", "kind", "default", "meaning"), rows)


def _shown(default: str) -> str:
    """Return a described default as code where it is a value, not a sentence."""
    return code(default) if re.fullmatch(r"[\w.]+", default) else default


def _row(one: Variable, said: Described | None) -> tuple[str, str, str, str]:
    between = " " if one.kind == KINDS["choice"] else ", "
    kind = f"{one.kind}{between}{one.range}" if one.range else one.kind
    default = code(one.default) if one.default else _shown(said.default if said else "")
    meaning = (said.meaning if said else "").replace("](", "](../")
    return code(one.name), kind, default, re.sub(r"\]\(\.\./(https?:)", r"](\1", meaning)
