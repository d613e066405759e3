"""A database that was made by migrations which this version no longer has.

Until release 0.1.0, the migrations may start anew. Such a database must not be migrated: its tables exist already.
"""

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader

APPS = ("reliability", "scheduling")
FOUND = "An earlier version of Backstop made this database: it has migrations that this version does not ({names})."
ADVICE = """\
Nothing was changed. Before release 0.1.0 the migrations may start anew, and this database cannot be migrated.
- To start fresh: {fresh}
- To keep the data: stay on the version that made the database, or dump its data and load it into a fresh one.
Both ways of keeping it are in docs/upgrade.md, "A database of an earlier version"."""
EMBEDDED = """stop Backstop, move `{directory}` in Backstop's own directory away, and start again.
  (That is the data of the embedded PostgreSQL, which is in use because DATABASE_URL is not set.)"""
EXTERNAL = "create an empty database, and name it in DATABASE_URL."


def found(*, using: str = DEFAULT_DB_ALIAS) -> str:
    """Say which migrations show that an earlier version made the database; empty if none did.

    After a rollback, too, the database has migrations that the code does not have. But then it has all of the code's.
    """
    loader = MigrationLoader(connections[using])
    recorded = {key for key in loader.applied_migrations if key[0] in APPS}
    known = {key for key in loader.disk_migrations if key[0] in APPS}
    unknown = sorted(recorded - known)
    if not unknown or known <= recorded:
        return ""
    named, more = ", ".join(map(".".join, unknown[:2])), len(unknown) - 2
    return FOUND.format(names=f"{named} and {more} more" if more > 0 else named)


def advice() -> str:
    """Say how to keep the data, or to start fresh."""
    directory = settings.EMBEDDED_DIRECTORY.relative_to(settings.BASE_DIR)
    return ADVICE.format(fresh=EMBEDDED.format(directory=directory) if settings.EMBEDDED_DATABASE else EXTERNAL)
