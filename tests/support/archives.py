"""The archive's files and rows, as tests look at them, and the way back from there."""

from pathlib import Path

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import archive_restore
from reliability.dead_letters.archive_restore import ArchiveFilter
from reliability.models import (
    Archive,
)

ACTOR = Actor(name="test", reason="a test")


def use(settings, location: Path, backend: str = "django.core.files.storage.FileSystemStorage") -> Path:
    modes = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
    options = {"BACKEND": backend, "OPTIONS": {"location": location, **modes}}
    settings.STORAGES = {**settings.STORAGES, "archive": options}
    return location


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def the_archive() -> Archive:
    return Archive.objects.get()


def bring_back(**values):
    selection = ArchiveFilter(**{name: values.pop(name) for name in ("ids", "workflow", "tenant") if name in values})
    return archive_restore.restore(archive=the_archive(), actor=ACTOR, now=clock.now(), selection=selection, **values)
