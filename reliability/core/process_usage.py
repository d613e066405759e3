"""What processes of this host use, as the kernel tells it; without /proc only this process's own."""

import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = resource.getpagesize()
# Of a process that has ended and is not collected yet.
ENDED_STATES = ("Z", "X")
# By which a worker is known.
PROCESS_NAME = f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Resident memory in bytes, CPU time in seconds, and when it began, in seconds since the host did."""

    memory_bytes: int
    cpu_seconds: float
    began: float = 0.0


def of(*, pid: int) -> Usage | None:
    """Return what a process uses; `None` where there is no such process, or nobody who tells."""
    try:
        # The command's name may hold anything, and ends with the last parenthesis.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return own() if pid == os.getpid() and not PROC.is_dir() else None
    if fields[0] in ENDED_STATES:
        return None
    return Usage(pages * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[19]) / _TICKS)


def own() -> Usage:
    """Return what this process uses; where the kernel keeps only the peak of its memory, that."""
    found = of(pid=os.getpid()) if PROC.is_dir() else None
    if found is not None:
        return found
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime)


def began_at(*, usage: Usage) -> float:
    """Return when a process began, in seconds since 1970."""
    text = (PROC / "stat").read_text()
    boot = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("btime"))
    return boot + usage.began
