"""Memory and CPU of processes: workers on all machines, which store their figures, and web processes on this one.

The kernel reports CPU time since the start of a process. Each check stores it, and the next one computes the share of
a CPU that was used in between.
"""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reliability.core import process_usage
from reliability.models import ProcessSample, WorkerFigure

# The command line of a web process contains one of these: the application, for any ASGI or WSGI server.
WEB_COMMANDS = ("config.asgi", "config.wsgi")
# A worker stores its figures every ten seconds.
MAX_AGE = timedelta(seconds=45)
# Over a shorter interval the share is too coarse: the previous one is kept.
MIN_INTERVAL = timedelta(seconds=50)
SAMPLE_RETENTION = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """A process, its resident memory in bytes, and its share of a CPU (1: one whole CPU), known from two checks on."""

    name: str
    memory: int
    cpu: float | None


@dataclass(frozen=True, slots=True)
class _Measurement:
    name: str
    memory: int
    cpu_seconds: float
    at: datetime


def measure(*, now: datetime, keep: bool = True) -> Sequence[ProcessUsage]:
    """Return the usage of each process; with `keep`, store it for the next check."""
    measured = [*_workers(now), *_web(now)]
    before = ProcessSample.objects.in_bulk([one.name for one in measured])
    samples = [_sample(one, before.get(one.name)) for one in measured]
    if keep:
        fields = ("cpu_seconds", "share", "at")
        ProcessSample.objects.bulk_create(samples, update_conflicts=True, update_fields=fields, unique_fields=("name",))
        # Process ids are reused, and machines come and go: old samples would only add up.
        ProcessSample.objects.filter(at__lt=now - SAMPLE_RETENTION).delete()
    return [ProcessUsage(one.name, one.memory, sample.share) for one, sample in zip(measured, samples, strict=True)]


def is_here(name: str) -> bool:
    """Whether this machine can measure a process: any worker, or a web process of its own."""
    return ":web:" not in name or name.startswith(f"{socket.gethostname()}:")


def _workers(now: datetime) -> Iterator[_Measurement]:
    for one in WorkerFigure.objects.filter(seen_at__gt=now - MAX_AGE).order_by("worker"):
        yield _Measurement(one.worker, one.memory_bytes, one.cpu_seconds, one.seen_at)


def _web(now: datetime) -> Iterator[_Measurement]:
    """Find this machine's web processes by their command line. Without `/proc`, none are found."""
    for path in process_usage.PROC.glob("[0-9]*/cmdline"):
        try:
            line = path.read_text(errors="replace")
        except OSError:
            continue  # it has ended, or belongs to another user
        pid = int(path.parent.name)
        used = process_usage.of(pid=pid) if any(mark in line for mark in WEB_COMMANDS) else None
        if used is not None:
            yield _Measurement(f"{socket.gethostname()}:web:{pid}", used.memory_bytes, used.cpu_seconds, now)


def _sample(measured: _Measurement, before: ProcessSample | None) -> ProcessSample:
    """Return the sample to store. If the CPU time went down, it is another process of the same name."""
    if before is None or measured.cpu_seconds < before.cpu_seconds or measured.at < before.at:
        return ProcessSample(name=measured.name, cpu_seconds=measured.cpu_seconds, at=measured.at)
    passed = (measured.at - before.at).total_seconds()
    if passed < MIN_INTERVAL.total_seconds():
        return before
    share = (measured.cpu_seconds - before.cpu_seconds) / passed
    return ProcessSample(name=measured.name, cpu_seconds=measured.cpu_seconds, share=share, at=measured.at)
