"""What comes often is counted to the last one, and seldom written."""

import logging
import subprocess
import sys
import threading
import time

import pytest

from reliability.metrics import buffered_counter
from reliability.metrics.buffered_counter import Tally

from ..support.receiver import until


def test_the_first_is_written_at_once_and_what_follows_together(monkeypatch):
    monkeypatch.setattr(buffered_counter, "WHILE", 0.3)
    written = []
    made = Tally(write=written.append)
    made.add()
    assert written == [1]
    for _ in range(5):
        made.add()
    assert written == [1]
    until(lambda: len(written) > 1, what="the end of the while")
    assert written == [1, 5]
    time.sleep(0.4)
    made.add()
    assert written == [1, 5, 1]


def test_many_threads_are_counted_to_the_last():
    written = []

    def write(count: int) -> None:
        before = list(written)
        time.sleep(0.0005)
        written[:] = [*before, count]  # two at once would lose one

    made = Tally(write=write)

    def count() -> None:
        for n in range(2_000):
            made.add()
            if n % 100 == 0:
                time.sleep(0.001)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    until(lambda: sum(written) == 16_000, what="the last one", within=5)
    assert len(written) < 4_000


def test_a_scrape_need_not_wait(monkeypatch):
    monkeypatch.setattr(buffered_counter, "WHILE", 60)
    written = []
    made = Tally(write=written.append)
    for _ in range(3):
        made.add()
    buffered_counter.flush()
    assert written == [1, 2]
    buffered_counter.flush()
    assert written == [1, 2]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("mmap closed or invalid")])
def test_a_full_disk_is_told_and_harms_nobody(caplog, error):
    def write(count: int) -> None:
        raise error

    with caplog.at_level(logging.WARNING):
        Tally(write=write).add()
    assert "not_counted" in caplog.text


def test_where_no_thread_is_to_be_had_each_is_written_at_once(monkeypatch):
    class NoThread(threading.Timer):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(buffered_counter, "Timer", NoThread)
    written = []
    made = Tally(write=written.append)
    for _ in range(3):
        made.add()
    assert written == [1, 1, 1]


def test_a_process_of_multiprocessing_writes_too_when_it_ends(tmp_path):
    code = (
        "import multiprocessing, pathlib, sys\n"
        "from reliability.metrics import tally; tally.WHILE = 60\n"
        "def work():\n"
        "    made = tally.Tally(write=lambda n: pathlib.Path(sys.argv[1], str(n)).touch())\n"
        "    for _ in range(3): made.add()\n"
        "one = multiprocessing.get_context('fork').Process(target=work); one.start(); one.join()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["1", "2"]


def test_a_process_that_ends_writes_what_it_holds():
    code = (
        "from reliability.metrics import tally; tally.WHILE = 60\n"
        "made = tally.Tally(write=print)\n"
        "for _ in range(3): made.add()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["1", "2"]
