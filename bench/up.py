"""`manage.py up` on an embedded database of its own: how soon it is ready again after its postmaster was killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import requests

from . import ground

KILLS, APART = 5, 32.0  # seconds: a server that lived that long starts again without delay
PARTS = ("config", "reliability", "scheduling", "templates")
UNSET = ("DATABASE_URL", "SECRET_KEY", "CRON_SECRET", "DJANGO_SETTINGS_MODULE", "STRIPE_WEBHOOK_SECRET")
PORT = ground.PORT + 20


def postmaster() -> dict[str, Any]:
    """Kill the postmaster while deliveries come in; return the longest time until it was ready, and what was lost."""
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name, ground.receiver(), _up(Path(name)) as root:
        key = _manage(root, "create_api_key", "--name", "bench")
        (root / "fast.json").write_text('{"name": "fast", "path": "fast"}')
        _manage(root, "import_workflows", "fast.json")
        headers = {"Authorization": f"Bearer {key}"}
        accepted: set[str] = set()
        times = []
        for turn in range(KILLS):
            _send_until(time.monotonic() + (APART if turn else 3.0), headers, accepted)
            times.append(_kill(root, headers, accepted))
        lost = _wait_for(root, accepted)
    return {"slowest": max(times), "median": median(times), "lost": lost, "accepted": len(accepted), "unit": "s"}


@contextmanager
def _up(directory: Path) -> Iterator[Path]:
    root = directory / "backstop"
    for part in PARTS:
        shutil.copytree(ground.ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ground.ROOT / "manage.py", root)
    command = [sys.executable, "manage.py", "up", "--port", str(PORT)]
    running = subprocess.Popen(command, cwd=root, env=_environment(), stdout=subprocess.DEVNULL)
    try:
        ground.wait_for(f"http://127.0.0.1:{PORT}/readyz", within=120)
        yield root
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(timeout=120)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "ADMIN_PASSWORD": "a-password-of-the-benchmark", "LOG_LEVEL": "CRITICAL"}


def _manage(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=root,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip().rpartition("\n")[2]


def _send(headers: dict[str, str], accepted: set[str]) -> None:
    key = f"bench-{time.monotonic_ns()}"
    body = {"workflow": "fast", "payload": {"order": 1}, "idempotency_key": key}
    try:
        url = f"http://127.0.0.1:{PORT}/api/v1/deliveries/"
        if requests.post(url, json=body, headers=headers, timeout=10).status_code == 201:
            accepted.add(key)
    except requests.RequestException:
        return  # not accepted


def _send_until(end: float, headers: dict[str, str], accepted: set[str]) -> None:
    while time.monotonic() < end:
        _send(headers, accepted)
        time.sleep(0.05)


def _kill(root: Path, headers: dict[str, str], accepted: set[str]) -> float:
    """Kill the postmaster; return the seconds until another one runs and `/readyz` says so."""
    from config import embedded

    directory = root / ".data" / "postgresql"
    before = embedded.postmaster(directory)
    assert before is not None
    before.kill()
    began = time.monotonic()
    while not (_is_another(directory, before.pid) and _is_ready()):
        _send(headers, accepted)
        time.sleep(0.05)
    return time.monotonic() - began


def _is_another(directory: Path, pid: int) -> bool:
    """Whether another postmaster runs: sessions of the one that was killed may answer for a moment."""
    from config import embedded

    found = embedded.postmaster(directory)
    return found is not None and found.pid != pid


def _is_ready() -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{PORT}/readyz", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def _wait_for(root: Path, accepted: set[str], *, within: float = 120) -> int:
    """Return how many accepted deliveries are not delivered in time."""
    socket_directory = (root / ".data" / "postgresql" / "postmaster.pid").read_text().splitlines()[4]
    address = f"postgresql://postgres@/backstop?host={socket_directory}"
    deadline = time.monotonic() + within
    while True:
        with psycopg.connect(address, autocommit=True) as connection:
            rows = connection.execute("SELECT idempotency_key FROM reliability_delivery WHERE state = 'delivered'")
            missing = accepted - {row[0] for row in rows}
        if not missing or time.monotonic() > deadline:
            return len(missing)
        time.sleep(0.5)
