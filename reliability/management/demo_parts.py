"""Parts of the demo from other packages. They register a module name, so that servers do not import the demo."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .demo.builder import Builder


@dataclass(frozen=True, slots=True)
class Part:
    """One part: adds rows to a builder whose lanes exist, removes them, and says whether other data exists."""

    fill: "Callable[[Builder], None]"
    remove: Callable[[], int]
    holds_other: Callable[[], bool]


_modules: list[str] = []


def register(*, module: str) -> None:
    """Register a module whose `PART` is filled and removed with the demo."""
    _modules.append(module)


def loaded() -> list[Part]:
    """Return all parts, in the order of their registration."""
    return [import_module(name).PART for name in _modules]
