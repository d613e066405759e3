"""Counts, memory and CPU of the web processes of this host; without `PROMETHEUS_MULTIPROC_DIR`, of this one alone."""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, Counter, disable_created_metrics
from prometheus_client.gc_collector import GC_COLLECTOR
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PLATFORM_COLLECTOR
from prometheus_client.process_collector import PROCESS_COLLECTOR

from reliability import VERSION
from reliability.core import process_usage

from . import multiprocess
from .catalogue import family

# These collectors would describe only the process that happens to answer the scrape.
for _own in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    REGISTRY.unregister(_own)
disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs

ERRORS = Counter("backstop_scrape_errors_total", "Parts of answers that failed.", ["part"])
MERGED = 0
# Seconds. A process is older than its file. The times of both are compared with this tolerance.
CLOCK_TOLERANCE = 2.0


def counted(now: datetime) -> Iterable[Metric]:
    """Return what web processes count themselves: requests, queries, pings, failed parts of scrapes."""
    where = multiprocess.directory()
    if where is None:
        return list(REGISTRY.collect())
    # Not while another process merges files.
    with multiprocess.locked(where):
        collector: Any = MultiProcessCollector  # it comes without types
        return list(collector(None, path=str(where)).collect())


def processes(now: datetime) -> Iterator[Metric]:
    """Return the memory and CPU time of web processes, from the kernel."""
    memory, cpu = family("process_resident_memory_bytes"), family("process_cpu_seconds_total")
    for pid, used in sorted(alive().items()):
        memory.add_metric([str(pid)], used.memory_bytes)
        cpu.add_metric([str(pid)], used.cpu_seconds)
    yield memory
    yield cpu
    build = family("backstop_build_info")
    build.add_metric([VERSION], 1)
    yield build


def alive() -> dict[int, process_usage.Usage]:
    """Return the usage of this host's web processes that are alive, by process id; always includes this process."""
    return {**{pid: used for pid, used in _seen().items() if used is not None}, os.getpid(): process_usage.own()}


def merge_dead_processes() -> None:
    """Merge the files of dead processes."""
    multiprocess.merge(dead={pid for pid, used in _seen().items() if used is None and pid != os.getpid()})


def _seen() -> dict[int, process_usage.Usage | None]:
    """Return the processes that have files, each with its usage, or `None` if it is dead."""
    where = multiprocess.directory()
    files = sorted(where.glob("*.db")) if where is not None else []
    return {pid: _of(pid, path) for path in files if (pid := multiprocess.process_of(path)) > MERGED}


def _of(pid: int, path: Path) -> process_usage.Usage | None:
    """Return the usage of the process that wrote a file; `None` if it is dead and its id was reused."""
    found = process_usage.of(pid=pid)
    # The kernel reuses process ids: a process that began after its file was last written is another one.
    try:
        is_later = found is not None and process_usage.began_at(usage=found) > path.stat().st_mtime + CLOCK_TOLERANCE
    except OSError:
        return None
    return None if is_later else found
