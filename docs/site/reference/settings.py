"""Every environment variable: kind, range and default as the code reads it; subject and meaning from settings.yml."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .tables import code, table

KINDS = {
    "text": "text",
    "credential": "text",
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
WORDS = Path(__file__).resolve().parents[1] / "settings.yml"
HEADS = ("variable", "kind", "default", "meaning")
UNDESCRIBED = {"subject": "Without a word about them", "variables": {}}
INTRODUCTION = """\
# Settings

Every environment variable that Backstop reads, by subject. How they are set, and what stands above them, is in
[Configuration](../configuration.md).
"""


@dataclass(frozen=True)
class Variable:
    """One variable: its kind and range in words, and the default as the code has it (`None`: not known there)."""

    name: str
    kind: str
    range: str = ""
    default: str | None = None


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


def page(*, variables: dict[str, Variable], root: Path) -> str:
    """Return the page: a table for each subject. What is read and has no word of its own comes last, and is seen so."""
    subjects = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    told = {name for subject in subjects for name in subject["variables"]}
    silent = sorted({*variables, *elsewhere(root)} - told)
    rest = [{**UNDESCRIBED, "variables": dict.fromkeys(silent, "")}] if silent else []
    return INTRODUCTION + "".join(_section(subject, variables) for subject in [*subjects, *rest])


def _section(subject: dict[str, Any], variables: dict[str, Variable]) -> str:
    note = f"{subject['note']}\n\n" if "note" in subject else ""
    rows = [_row(variables.get(name, Variable(name, "text")), said) for name, said in subject["variables"].items()]
    return f"\n## {subject['subject']}\n\n{note}" + table(HEADS, rows)


def _row(one: Variable, said: str | dict[str, str]) -> tuple[str, str, str, str]:
    words = said if isinstance(said, dict) else {"meaning": said}
    between = " " if one.kind == KINDS["choice"] else ", "
    kind = f"{one.kind}{between}{one.range}" if one.range else one.kind
    return code(one.name), kind, code(one.default) if one.default else words.get("default", ""), words["meaning"]
