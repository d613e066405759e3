"""What processes use: workers by their own word, web processes of this machine by the kernel's."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from reliability.core import clock, process_usage
from reliability.models import ProcessSample, WorkerFigure
from reliability.stats import process_stats

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _no_web(monkeypatch, request):
    """Others may run on this machine; only the test that is about them looks."""
    if "web" not in request.node.name:
        monkeypatch.setattr(process_stats, "_web", lambda now: iter([]))


def write(worker="box:7", *, cpu: float, at, memory=100):
    WorkerFigure.objects.update_or_create(
        worker=worker, defaults={"memory_bytes": memory, "cpu_seconds": cpu, "seen_at": at}
    )


def test_a_share_is_known_from_the_second_check_on():
    now = clock.now()
    write(cpu=10, at=now)
    (first,) = process_stats.measure(now=now)
    assert (first.name, first.memory, first.cpu) == ("box:7", 100, None)
    write(cpu=55, at=now + 60 * SECOND)
    (second,) = process_stats.measure(now=now + 60 * SECOND)
    assert second.cpu == pytest.approx(0.75)
    # Soon after, the share of before stands: over a moment it would say little.
    write(cpu=65, at=now + 70 * SECOND)
    assert process_stats.measure(now=now + 70 * SECOND)[0].cpu == pytest.approx(0.75)
    write(cpu=73, at=now + 120 * SECOND)
    assert process_stats.measure(now=now + 120 * SECOND)[0].cpu == pytest.approx(0.3)


def test_a_look_that_keeps_nothing_changes_nothing():
    now = clock.now()
    write(cpu=10, at=now)
    process_stats.measure(now=now, keep=False)
    assert not ProcessSample.objects.exists()


def test_another_process_of_the_same_name_begins_anew():
    now = clock.now()
    write(cpu=1000, at=now)
    process_stats.measure(now=now)
    write(cpu=1, at=now + 100 * SECOND)
    assert process_stats.measure(now=now + 100 * SECOND)[0].cpu is None
    write(cpu=2, at=now - 100 * SECOND)  # a clock that was set back
    assert process_stats.measure(now=now - 100 * SECOND)[0].cpu is None


def test_a_worker_that_is_gone_is_forgotten():
    now = clock.now()
    write(cpu=1, at=now)
    process_stats.measure(now=now)
    assert process_stats.measure(now=now + 46 * SECOND) == []
    assert ProcessSample.objects.count() == 1
    process_stats.measure(now=now + timedelta(hours=2))
    assert not ProcessSample.objects.exists()


@pytest.mark.skipif(not process_usage.PROC.is_dir(), reason="there is no /proc here")
def test_a_web_process_of_this_machine_is_seen():
    command = [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()", "config.asgi"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        found = {one.name: one for one in process_stats.measure(now=clock.now())}
        (name,) = [one for one in found if one.endswith(f":web:{other.pid}")]
        assert process_stats.is_here(name)
        assert found[name].memory > 1024 * 1024
        other.stdin.close()
    assert not any(one.endswith(f":{os.getpid()}") for one in found)


@pytest.mark.parametrize(("name", "here"), [("elsewhere:7", True), ("elsewhere:web:7", False)])
def test_workers_of_all_machines_can_be_seen_from_here(name, here):
    assert process_stats.is_here(name) is here
