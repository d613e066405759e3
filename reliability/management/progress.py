"""A progress bar on a terminal; without a terminal, nothing is printed."""

import sys
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts rows under one heading after another, on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._heading = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def add(self, heading: str, count: int) -> None:
        """Count `count` more rows under `heading`."""
        if self._bar is None or heading != self._heading:
            self.end()
            self._heading = heading
            hidden = not sys.stderr.isatty()
            self._bar = tqdm(desc=heading, unit=" rows", disable=hidden, leave=False, file=sys.stderr)
        self._bar.update(count)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
