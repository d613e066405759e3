"""What processes use: the workers of all machines, as they write it down, and the web processes of this one.

Of CPU time only sums are known. A check keeps them, and the next one knows what share of a CPU a process used since.
"""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reliability.core import process_usage
from reliability.models import ProcessSample, WorkerFigure

# What the command line of a web process names: the server's application, or another WSGI server's.
WEB_MARKS = ("config.asgi", "config.wsgi")
# A worker writes down what it uses every ten seconds.
FRESH = timedelta(seconds=45)
# Over less than this a share says little: the one known before stands.
SPAN = timedelta(seconds=50)
KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Used:
    """A process, its resident memory in bytes, and its share of a CPU (1: all of it) where two checks saw it."""

    name: str
    memory: int
    cpu: float | None


@dataclass(frozen=True, slots=True)
class _Seen:
    name: str
    memory: int
    cpu_seconds: float
    at: datetime


def look(*, now: datetime, keep: bool = True) -> Sequence[Used]:
    """Return what each process uses, and with `keep` note it for the next check."""
    seen = [*_workers(now), *_web(now)]
    before = ProcessSample.objects.in_bulk([one.name for one in seen])
    samples = [_sample(one, before.get(one.name)) for one in seen]
    if keep:
        fields = ("cpu_seconds", "share", "at")
        ProcessSample.objects.bulk_create(samples, update_conflicts=True, update_fields=fields, unique_fields=("name",))
        ProcessSample.objects.filter(at__lt=now - KEPT).delete()
    return [Used(one.name, one.memory, sample.share) for one, sample in zip(seen, samples, strict=True)]


def is_here(name: str) -> bool:
    """Whether a process can be seen from here: a worker, or a web process of this machine."""
    return ":web:" not in name or name.startswith(f"{socket.gethostname()}:")


def _workers(now: datetime) -> Iterator[_Seen]:
    for one in WorkerFigure.objects.filter(seen_at__gt=now - FRESH).order_by("worker"):
        yield _Seen(one.worker, one.memory_bytes, one.cpu_seconds, one.seen_at)


def _web(now: datetime) -> Iterator[_Seen]:
    """Find this machine's web processes by their command line; where there is no `/proc`, none are known."""
    for path in process_usage.PROC.glob("[0-9]*/cmdline"):
        try:
            line = path.read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
        pid = int(path.parent.name)
        used = process_usage.of(pid=pid) if any(mark in line for mark in WEB_MARKS) else None
        if used is not None:
            yield _Seen(f"{socket.gethostname()}:web:{pid}", used.memory_bytes, used.cpu_seconds, now)


def _sample(seen: _Seen, before: ProcessSample | None) -> ProcessSample:
    """Return what to keep. A process that has used less than before is another one of the same name."""
    if before is None or seen.cpu_seconds < before.cpu_seconds or seen.at < before.at:
        return ProcessSample(name=seen.name, cpu_seconds=seen.cpu_seconds, at=seen.at)
    passed = (seen.at - before.at).total_seconds()
    if passed < SPAN.total_seconds():
        return before
    share = (seen.cpu_seconds - before.cpu_seconds) / passed
    return ProcessSample(name=seen.name, cpu_seconds=seen.cpu_seconds, share=share, at=seen.at)
