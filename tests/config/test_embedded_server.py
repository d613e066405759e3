"""The embedded PostgreSQL, as a real server on data of its own: what a crash leaves keeps no start from succeeding."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from config import embedded

from ..support import scratch
from ..support.receiver import until
from ..support.workers import ROOT

WITHIN = 60
HOLD = """
import sys
from pathlib import Path
from config import embedded
print(embedded.start(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that uses the server until its standard input ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the server did not start"

    def end(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(timeout=WITHIN) == 0


@pytest.fixture(scope="module")
def directory():
    """Data of its own; whatever runs on it ends with the tests."""
    with scratch.directory() as parent:
        made = parent / "postgresql"
        yield made
        if (server := embedded.postmaster(made)) is not None:
            server.send_signal(signal.SIGQUIT)
            until(lambda: embedded.postmaster(made) is None, within=WITHIN, what="the server's end")


@pytest.fixture
def holder(directory):
    made = Holder(directory)
    yield made
    made.process.kill()
    made.process.wait()


def kill(directory: Path) -> int:
    server = embedded.postmaster(directory)
    server.kill()
    until(lambda: embedded.postmaster(directory) is None, within=WITHIN, what="the postmaster's end")
    return server.pid


def run(directory: Path, user: int) -> "subprocess.Popen[bytes]":
    """Begin to start it as the supervisor does."""
    return subprocess.Popen([sys.executable, "-m", "config.embedded", str(directory), str(user)], cwd=ROOT)


def start(directory: Path, user: int) -> int:
    return run(directory, user).wait(2 * WITHIN)


def answers(address: str) -> bool:
    with psycopg.connect(address, connect_timeout=10) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def test_it_ends_with_the_last_process_that_uses_it_and_the_killed_do_not_count(directory):
    first, second = Holder(directory), Holder(directory)
    assert first.address == second.address
    assert answers(first.address)
    killed = Holder(directory)
    killed.process.kill()
    killed.process.wait()
    first.end()
    assert embedded.postmaster(directory) is not None
    third = Holder(directory)  # with a start, those that were killed leave the list
    second.end()
    third.end()
    assert embedded.postmaster(directory) is None


def test_what_was_committed_is_there_after_a_kill_and_the_address_stays(directory, holder):
    with psycopg.connect(holder.address, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    kill(directory)
    assert start(directory, holder.process.pid) == 0
    with psycopg.connect(holder.address) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    holder.end()
    assert embedded.postmaster(directory) is None  # though it was restarted behind the holder's back


def test_a_busy_backend_that_outlives_its_postmaster_keeps_no_start_from_succeeding(directory, holder):
    """It holds the shared memory, and does not look up from a loop."""
    connection = psycopg.connect(holder.address, autocommit=True)
    pid = connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    kill(directory)
    assert embedded._server_process(pid, directory) is not None
    assert start(directory, holder.process.pid) == 0
    assert answers(holder.address)
    assert embedded._server_process(pid, directory) is None
    connection.close()


@pytest.mark.parametrize("kind", ["another process", "a zombie", "a standalone one", "half a file", "no file"])
def test_a_stale_pid_file_is_not_taken_for_a_server(directory, holder, kind):
    file = directory / embedded.POSTMASTER
    kill(directory)
    text = file.read_text()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        if kind == "a zombie":
            other.kill()
            until(lambda: Path(f"/proc/{other.pid}/stat").read_text().split()[2] == "Z", within=WITHIN)
        first, _, rest = text.partition("\n")
        made = {"half a file": text[: len(first) + 5], "no file": None, "a standalone one": f"-{first}\n{rest}"}
        content = made.get(kind, f"{other.pid}\n{rest}")
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        for lock in directory.glob(".s.PGSQL.*.lock"):
            lock.write_text(f"{other.pid}\n{rest}")
        assert start(directory, holder.process.pid) == 0
        assert answers(holder.address)
        assert holder.process.pid in json.loads((directory / embedded.PIDS).read_text())
    finally:
        other.kill()
        other.wait()


def test_an_emptied_list_of_processes_does_not_end_it_with_its_start(directory, holder):
    """A full disk empties the list; the process that starts the server is then the last one on it."""
    (directory / embedded.PIDS).write_text("")
    kill(directory)
    assert start(directory, holder.process.pid) == 0
    assert answers(holder.address)
    assert holder.process.pid in json.loads((directory / embedded.PIDS).read_text())


def test_a_server_that_does_not_start_says_why_and_where_its_log_is(directory):
    """Without a word of what else the log holds: statements may have payloads."""
    holder = Holder(directory)
    with psycopg.connect(holder.address, autocommit=True) as connection, pytest.raises(psycopg.Error):
        connection.execute("SELECT 'a payload' FROM nowhere")
    holder.end()
    assert "a payload" in (directory / embedded.LOG).read_text()
    configuration = directory / "postgresql.conf"
    text = configuration.read_text()
    configuration.write_text(text + "\nshared_buffers = 'rather many'\n")
    try:
        code = "import sys, pathlib; from config import embedded; embedded.START_TIME = 1.0;"
        code += " embedded.start(pathlib.Path(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(directory)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        configuration.write_text(text)
    assert done.returncode != 0
    assert "a payload" not in done.stderr
    assert f"See the log: {directory / embedded.LOG}" in done.stderr
    assert "FATAL:  configuration file" in done.stderr


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    (tmp_path / "log").write_text("FATAL:  of long ago\nLOG:  starting PostgreSQL 18\nFATAL:  terminating connection\n")
    monkeypatch.setattr(embedded, "_free", lambda directory: 3 * 1024 * 1024)
    said = f"The disk is full: 3 MB free. Free some space. See the log: {tmp_path / 'log'}"
    assert embedded.explain(tmp_path) == said


def _works_in(parent: Path) -> bool:
    commands = (one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"]))
    return any(str(parent) in word for words in commands for word in words)


def test_data_whose_making_was_killed_are_made_anew():
    """`initdb` takes seconds; what it leaves half made looks like data, and no server would ever start from it."""
    with scratch.directory() as parent:
        directory = parent / "postgresql"
        process = run(directory, os.getpid())
        until(lambda: list(parent.rglob("PG_VERSION")), within=WITHIN, what="the beginning of the data")
        process.kill()
        process.wait()
        # `initdb` outlives who started it for a moment, and would write on where its data were taken away.
        until(lambda: not _works_in(parent), within=WITHIN, what="the end of initdb")
        assert not (directory / "PG_VERSION").exists()
        holder = Holder(directory)
        assert answers(holder.address)
        holder.end()
        assert sorted(one.name for one in parent.iterdir()) == [".postgresql.lock", "postgresql"]


def test_the_servers_end_needs_no_way_to_its_data_and_is_no_crash(directory):
    """Whoever runs it may have closed a directory above the data to the user that PostgreSQL runs as."""
    holder = Holder(directory)
    logged = (directory / embedded.LOG).stat().st_size
    directory.parent.chmod(0o700)
    holder.end()
    assert embedded.postmaster(directory) is None
    assert "database system is shut down" in (directory / embedded.LOG).read_text()[logged:]


def test_a_server_that_recovers_for_long_is_joined_and_not_started_twice(directory, holder):
    """While it recovers, its file says that it is not ready."""
    server = embedded.postmaster(directory)
    file = directory / embedded.POSTMASTER
    ready = file.read_text()
    file.write_text(ready.replace("ready", "starting"))
    waiting = run(directory, holder.process.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(2)
    file.write_text(ready)
    assert waiting.wait(WITHIN) == 0
    assert embedded.postmaster(directory) == server
