"""Collects the static files, unless the collected ones are up to date: a full run compresses each file, for seconds."""

from hashlib import sha256
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

MANIFEST = "staticfiles.json"


def collect() -> bool:
    """Collect the static files; return whether that was necessary."""
    stamp = settings.DATA_DIR / "static_files"
    current = _digest()
    if (Path(settings.STATIC_ROOT) / MANIFEST).exists() and stamp.exists() and stamp.read_text() == current:
        return False
    stamp.unlink(missing_ok=True)  # a run that breaks off must not count as complete
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(current)
    return True


def _digest() -> str:
    """Return a digest of the names, sizes and modification times of all source files, and of their destination."""
    found = []
    for finder in get_finders():
        for name, storage in finder.list([]):
            path = Path(storage.path(name))
            state = path.stat()
            found.append(f"{path} {state.st_size} {state.st_mtime_ns}")
    text = "\n".join([str(settings.STATIC_ROOT), str(settings.STORAGES["staticfiles"]), *sorted(found)])
    return sha256(text.encode()).hexdigest()
