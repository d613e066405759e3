"""Line diff of two texts, in bounded time for any input."""

import difflib
from dataclasses import dataclass

# Texts with more lines than this are shown one after the other: difflib's time grows with the square of the length.
COMPARED = 2000
SHOWN = 1000
AROUND = 3
_KINDS = {"+": "added", "-": "removed", "@": "hunk", " ": "same"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a diff: `kind` is added, removed, same or hunk."""

    kind: str
    text: str

    @property
    def sign(self) -> str:
        return {"added": "+", "removed": "-"}.get(self.kind, " ")


def lines_of(*, before: str, after: str) -> list[Line]:
    """Return the unified diff from `before` to `after`; empty if they are equal."""
    old, new = before.splitlines(), after.splitlines()
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    # Equal lines at both ends are left out, except for AROUND lines of context.
    first, last = max(0, head - AROUND), max(0, tail - AROUND)
    found = _compare(old[first : len(old) - last], new[first : len(new) - last], first)
    cut = [Line("hunk", f"… and {len(found) - SHOWN:,} more lines")] if len(found) > SHOWN else []
    return found[:SHOWN] + cut


def _alike(one: list[str], other: list[str]) -> int:
    """Return how many lines are equal at the start."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _compare(old: list[str], new: list[str], offset: int) -> list[Line]:
    if old == new:
        return []
    if max(len(old), len(new)) > COMPARED:
        return [*(Line("removed", line) for line in old), *(Line("added", line) for line in new)]
    found = list(difflib.unified_diff(old, new, lineterm="", n=AROUND))[2:]
    return [_line(text, offset) for text in found]


def _line(text: str, offset: int) -> Line:
    kind = _KINDS[text[0]]
    if kind != "hunk":
        return Line(kind, text[1:])
    place = text.split()[2].lstrip("+").partition(",")[0]
    return Line("hunk", f"Line {int(place) + offset}")
