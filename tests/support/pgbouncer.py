"""PgBouncer between the tests and their database, where the machine has it (Debian: `apt-get install pgbouncer`)."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from django.db import connection

COMMAND = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
CONFIGURATION = """
[databases]
{name} = host={host} port={port} user={user} dbname={name}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 3
admin_users = {user}
"""


class PgBouncer:
    """One that serves the tests' database at 127.0.0.1:`port`, in a pool mode."""

    def __init__(self, mode: str) -> None:
        values = connection.settings_dict
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="pgbouncer-")
        path = Path(self._folder.name) / "pgbouncer.ini"
        path.write_text(
            CONFIGURATION.format(
                name=values["NAME"],
                host=values["HOST"] or "127.0.0.1",
                port=values["PORT"] or 5432,
                user=values["USER"],
                listen=self.port,
                mode=mode,
            )
        )
        owner = None
        if os.getuid() == 0:  # as which it does not run; whoever has the server's socket may use it
            owner = Path(values["HOST"]).stat().st_uid if values["HOST"].startswith("/") else 65534
            os.chown(self._folder.name, owner, -1)
        assert COMMAND is not None
        self._process = subprocess.Popen([COMMAND, "-q", str(path)], user=owner, stderr=subprocess.PIPE)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stderr.close()
        self._folder.cleanup()
