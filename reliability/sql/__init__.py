"""The SQL functions and triggers of all applications: the `.sql` files here are their current text, and the only one.

A file holds one function, or the triggers of one subject with their functions (`trigger_…`), and can be executed again
at any time. In alphabetical order, each finds what it needs.

To change one: edit its file, copy the file's new text to `versions/<application>_<number>.sql`, and add a migration
with that number that calls `install`. Never edit a version: an old migration goes on installing what it always did.
`tests/models/test_sql.py` compares these files with the database that the migrations make.
"""

from pathlib import Path

from django.db.migrations import RunSQL

DIRECTORY = Path(__file__).parent


def current() -> str:
    """Return the current text of all functions and triggers, in an order in which it can be executed."""
    return "\n".join(path.read_text() for path in sorted(DIRECTORY.glob("*.sql")))


def install(version: str) -> RunSQL:
    """Return the operation that executes `versions/<version>.sql`, and `versions/<version>.down.sql` to undo it."""
    versions = DIRECTORY / "versions"
    return RunSQL((versions / f"{version}.sql").read_text(), (versions / f"{version}.down.sql").read_text())
