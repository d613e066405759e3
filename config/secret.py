"""The secret key of an installation that has not been given one."""

import os
import secrets
from pathlib import Path


def kept_in(path: Path) -> str:
    """Return the key kept at `path`, made at random the first time, readable by its owner alone."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    key = secrets.token_urlsafe(64)
    with os.fdopen(handle, "w") as file:
        file.write(key)
    return key
