"""What docs/architecture.md says of the code holds: its functions exist, and its table has each package, no other."""

import re
from importlib import import_module

import pytest

from tests.test_architecture import LEVELS

from .blocks import ROOT, inline_code

PAGE = ROOT / "docs" / "architecture.md"
DOTTED = re.compile(r"[a-z_]+(?:\.[a-z_]+)+\.(?:[A-Za-z_]+)")


def dotted() -> list[str]:
    return sorted({text for _, text in inline_code(PAGE) if DOTTED.fullmatch(text)})


@pytest.mark.parametrize("name", dotted())
def test_a_function_that_it_names_exists(name):
    path = name if name.startswith(("config.", "reliability.")) else f"reliability.{name}"
    module, _, last = path.rpartition(".")
    try:
        import_module(path)
    except ModuleNotFoundError:
        assert hasattr(import_module(module), last), f"{PAGE.name}: {path} does not exist"


def test_it_follows_a_payload_through_many_functions():
    assert len(dotted()) > 15


def test_its_table_has_every_package_at_its_level():
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    told = [set(re.findall(r"`(\w+)`", names)) for _, names in rows]
    assert [number for number, _ in rows] == [str(at + 1) for at in range(len(LEVELS))]
    assert told == [set(level) for level in LEVELS]
