"""A bar on a terminal for what takes long; nothing where nobody looks at one."""

import sys
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts what is done, under one heading after another. Written to standard error."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._heading = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def add(self, heading: str, count: int) -> None:
        """Say that so many more are done."""
        if self._bar is None or heading != self._heading:
            self.end()
            self._heading = heading
            hidden = not sys.stderr.isatty()
            self._bar = tqdm(desc=heading, unit=" rows", disable=hidden, leave=False, file=sys.stderr)
        self._bar.update(count)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
