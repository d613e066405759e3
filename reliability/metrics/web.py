"""The part of the web processes of this host: what they count themselves, and what they use.

Without `PROMETHEUS_MULTIPROC_DIR` it is this process alone.
"""

import os
import time
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

from . import buffered_counter, multiprocess
from .catalogue import family

# What they say is of the one process that happens to answer.
for _own in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    REGISTRY.unregister(_own)
disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs

ERRORS = Counter("backstop_scrape_errors_total", "Parts of answers that failed.", ["part"])
FOLDED = 0
# A file is as old as its process at the most; the kernel's clocks are this exact, in seconds.
SLACK = 2.0


def counted(now: datetime) -> Iterable[Metric]:
    """Return what web processes count themselves: requests, queries, pings, errors of this page."""
    buffered_counter.flush()
    where = multiprocess.directory()
    if where is None:
        return list(REGISTRY.collect())
    if len(living()) > 1:
        time.sleep(2 * buffered_counter.WHILE)  # until the others have written what they have counted by now
    with multiprocess.locked(where):
        collector: Any = MultiProcessCollector  # it comes without types
        return list(collector(None, path=str(where)).collect())


def processes(now: datetime) -> Iterator[Metric]:
    """Return what web processes use, as the kernel tells it."""
    memory, cpu = family("process_resident_memory_bytes"), family("process_cpu_seconds_total")
    for pid, used in sorted(living().items()):
        memory.add_metric([str(pid)], used.memory_bytes)
        cpu.add_metric([str(pid)], used.cpu_seconds)
    yield memory
    yield cpu
    build = family("backstop_build_info")
    build.add_metric([VERSION], 1)
    yield build


def living() -> dict[int, process_usage.Usage]:
    """Return the web processes of this host that are there; this one in any case."""
    return {**{pid: used for pid, used in _seen().items() if used is not None}, os.getpid(): process_usage.own()}


def tidy() -> None:
    """Add up what dead processes left behind."""
    multiprocess.fold(dead={pid for pid, used in _seen().items() if used is None and pid != os.getpid()})


def _seen() -> dict[int, process_usage.Usage | None]:
    """Return the processes that have files, with what they use, or nothing where they are no more."""
    where = multiprocess.directory()
    files = sorted(where.glob("*.db")) if where is not None else []
    return {pid: _of(pid, path) for path in files if (pid := multiprocess.process_of(path)) > FOLDED}


def _of(pid: int, path: Path) -> process_usage.Usage | None:
    """Return what the process uses that wrote a file; a later one of the same number is another."""
    found = process_usage.of(pid=pid)
    try:
        is_later = found is not None and process_usage.began_at(usage=found) > path.stat().st_mtime + SLACK
    except OSError:
        return None
    return None if is_later else found
