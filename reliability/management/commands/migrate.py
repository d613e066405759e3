"""`manage.py migrate`: Django's own, which first makes sure that the database is not one of an earlier version."""

from typing import Any

from django.core.management import CommandError
from django.core.management.commands import migrate

from reliability.setup import older_database


class Command(migrate.Command):
    """Updates the database schema."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Raise `CommandError`, before anything is changed, for a database of an earlier version."""
        # Django would stop as well, but in its own words: "applied before its dependency", or "already exists".
        if found := older_database.found(using=options["database"]):
            raise CommandError(f"{found}\n{older_database.advice()}")
        super().handle(*args, **options)
