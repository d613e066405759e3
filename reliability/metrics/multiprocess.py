"""The directory in which the web processes of a host keep their counts, for whichever of them is scraped.

`prometheus_client` writes to it where `PROMETHEUS_MULTIPROC_DIR` is set before its first import. A process leaves its
files when it ends; what they say is added to the files of process 0, so that counts go on and files stay few.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

logger = logging.getLogger(__name__)


def directory() -> Path | None:
    """Return the directory, if there is one."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def prepare() -> None:
    """Make the directory, where one is named: before anything is counted."""
    where = directory()
    if where is not None:
        where.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(where: Path, *, alone: bool = False) -> Iterator[None]:
    """Keep the files from being added up meanwhile; `alone`, also from being read."""
    with (where / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@contextmanager
def harmless() -> Iterator[None]:
    """Let nobody suffer from what cannot be counted: the disk is full, or the directory is gone."""
    try:
        yield
    except OSError as error:
        not_counted(error)


def not_counted(error: Exception) -> None:
    """Log why something was not counted."""
    logger.warning("not_counted", extra={"error": type(error).__name__})


def process_of(path: Path) -> int:
    """Return the process that a file is of; -1 where its name tells none."""
    found = path.stem.rpartition("_")[2]
    return int(found) if found.isdigit() else -1


def fold(*, dead: "set[int]") -> None:
    """Add the files of dead processes to those of process 0. A file that cannot be read is dropped."""
    where = directory()
    if where is None or not dead:
        return
    with locked(where, alone=True):
        for path in sorted(where.glob("*.db")):
            if process_of(path) in dead:
                _add(path, where / f"{path.stem.rpartition('_')[0]}_0.db")


def _add(path: Path, target: Path) -> None:
    from prometheus_client import mmap_dict

    values: Any = mmap_dict.MmapedDict  # it comes without types
    try:
        found = list(values.read_all_values_from_file(path))
        kept = values(str(target))
    except Exception as error:  # whatever a crash left there
        logger.warning("counts_dropped", extra={"file": path.name, "error": type(error).__name__})
        path.unlink(missing_ok=True)
        return
    highest = path.stem.startswith("gauge_max")
    try:
        for key, value, _, _ in found:
            before = kept.read_value(key)[0]
            kept.write_value(key, max(before, value) if highest else before + value, 0.0)
    finally:
        kept.close()
        path.unlink(missing_ok=True)
