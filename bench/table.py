"""Prints the one table."""

from collections.abc import Sequence

from .bars import Line


def show(lines: Sequence[Line]) -> None:
    rows = [("what", "figure", "must be", "", "from")]
    rows += [(one.what, one.figure, one.bar, "ok" if one.met else "MISSED", one.from_) for one in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
