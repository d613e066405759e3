"""The directory where the web processes of a host store their counts, so that a scrape of any one returns all.

`prometheus_client` writes there if `PROMETHEUS_MULTIPROC_DIR` is set before its first import. It never removes the
files of a process that has ended. They would pile up, and deleting them would make counters fall, which Prometheus
takes for a reset. So `merge` adds them to files of process 0. The directory cannot be emptied at a start instead,
because several services of a host may share it.
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
    """Create the directory, if one is configured. Called before anything is counted."""
    where = directory()
    if where is not None:
        where.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(where: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Lock the directory: shared for reading, exclusive (`exclusive`) for merging files.

    Without it a scrape during a merge would count a file twice, or not at all. The kernel releases the lock if the
    process dies.
    """
    with (where / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


@contextmanager
def harmless() -> Iterator[None]:
    """Log an `OSError` while counting instead of raising it: a full disk must not fail the request."""
    try:
        yield
    except OSError as error:
        not_counted(error)


def not_counted(error: Exception) -> None:
    """Log why something was not counted."""
    logger.warning("not_counted", extra={"error": type(error).__name__})


def process_of(path: Path) -> int:
    """Return the id of the process that a file belongs to; -1 if its name has none."""
    found = path.stem.rpartition("_")[2]
    return int(found) if found.isdigit() else -1


def merge(*, dead: "set[int]") -> None:
    """Add the files of dead processes to those of process 0. A file that cannot be read is deleted."""
    where = directory()
    if where is None or not dead:
        return
    with locked(where, exclusive=True):
        for path in sorted(where.glob("*.db")):
            if process_of(path) in dead:
                _merge_file(path, where / f"{path.stem.rpartition('_')[0]}_0.db")


def _merge_file(path: Path, target: Path) -> None:
    from prometheus_client import mmap_dict

    values: Any = mmap_dict.MmapedDict  # it comes without types
    try:
        found = list(values.read_all_values_from_file(path))
        kept = values(str(target))
    except Exception as error:  # a crash may leave anything
        logger.warning("counts_dropped", extra={"file": path.name, "error": type(error).__name__})
        path.unlink(missing_ok=True)
        return
    # Counters add up. The only gauges here use the mode `max`.
    highest = path.stem.startswith("gauge_max")
    try:
        for key, value, _, _ in found:
            before = kept.read_value(key)[0]
            kept.write_value(key, max(before, value) if highest else before + value, 0.0)
    finally:
        kept.close()
        path.unlink(missing_ok=True)
