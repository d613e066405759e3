"""Directories for an embedded PostgreSQL of a test's own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp


@contextmanager
def directory() -> Iterator[Path]:
    """Make a directory that is gone at the end.

    Not pytest's: run by root, PostgreSQL belongs to another user, and each pytest that starts on the machine takes
    that user's way into the directories of all others.
    """
    made = Path(mkdtemp(prefix="backstop-test-"))
    os.chmod(made, 0o755)  # the user that PostgreSQL runs as has to reach its data
    try:
        yield made
    finally:
        rmtree(made, ignore_errors=True)
