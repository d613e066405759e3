"""What other rooms add to the demo. They name it, so that servers, which never fill a demo, need not load it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .demo.builder import Builder


@dataclass(frozen=True, slots=True)
class Part:
    """What another room adds: rows to a book whose lanes are open; how they go; and whether it holds other data."""

    fill: "Callable[[Builder], None]"
    remove: Callable[[], int]
    holds_other: Callable[[], bool]


_modules: list[str] = []


def register(*, module: str) -> None:
    """Have the `PART` of a module filled and removed with the rest."""
    _modules.append(module)


def loaded() -> list[Part]:
    """Return all parts, in the order in which they were registered."""
    return [import_module(name).PART for name in _modules]
