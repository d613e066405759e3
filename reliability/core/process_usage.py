"""Memory and CPU time of this host's processes, read from /proc; without /proc, of this process only."""

import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = resource.getpagesize()
# States of a process that has ended but was not waited for: a zombie still has an entry in /proc.
ENDED_STATES = ("Z", "X")
# The name of this process in attempts, logs and metrics.
PROCESS_NAME = f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Resident memory in bytes, CPU time in seconds, and when it began, in seconds since the host did."""

    memory_bytes: int
    cpu_seconds: float
    began: float = 0.0


def of(*, pid: int) -> Usage | None:
    """Return what a process uses; `None` if there is no such process, or no way to read it."""
    try:
        # The second field is the command's name in parentheses. It may contain spaces and parentheses itself, so the
        # fields are counted from the last closing one (proc(5)).
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return own() if pid == os.getpid() and not PROC.is_dir() else None
    if fields[0] in ENDED_STATES:
        return None
    return Usage(pages * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[19]) / _TICKS)


def own() -> Usage:
    """Return what this process uses; without /proc, its peak memory instead of its current one."""
    found = of(pid=os.getpid()) if PROC.is_dir() else None
    if found is not None:
        return found
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # `ru_maxrss` is in bytes on macOS, in kilobytes elsewhere (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime)


def began_at(*, usage: Usage) -> float:
    """Return when a process began, in seconds since 1970."""
    text = (PROC / "stat").read_text()
    boot = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("btime"))
    return boot + usage.began
