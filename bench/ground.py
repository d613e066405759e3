"""What the benchmarks stand on: a database of their own, real processes, a fast receiver."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import requests

ROOT = Path(__file__).resolve().parents[1]
NAME = "backstop_bench"
PORT, RECEIVER_PORT = 8471, 8472
CRON_SECRET = "a-secret-of-the-benchmark"
STRIPE_SECRET = "whsec_of-the-benchmark"
SECRET_KEY = "a-key-of-the-benchmark-" + "x" * 40


def prepare() -> None:
    """Point the environment at a fresh database and set Django up. Call it before anything of the project's."""
    from config import embedded

    given = os.environ.get("DATABASE_URL") or embedded.start(ROOT / ".data" / "bench" / "postgresql")
    with psycopg.connect(given, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {NAME}")
    values = {
        "DATABASE_URL": _named(given),
        "SECRET_KEY": SECRET_KEY,
        "CRON_SECRET": CRON_SECRET,
        "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
        "N8N_WEBHOOK_URL": f"http://127.0.0.1:{RECEIVER_PORT}/webhook",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    os.environ.update(values)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)


def _named(address: str) -> str:
    head, _, query = address.partition("?")
    return head.rpartition("/")[0] + f"/{NAME}" + (f"?{query}" if query else "")


@contextmanager
def process(*command: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Python process for a while."""
    values = {**os.environ, **environment}
    running = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=values, stdout=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(timeout=90)


@contextmanager
def web(
    application: str = "config.asgi:application", *, ready: str = "/readyz", interface: str = "", **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve an application as `manage.py up` serves ours; by `interface`, in as many threads, where one is named."""
    from reliability.management.commands.up import ENVIRONMENT, web_command
    from reliability.metrics import multiprocess

    counts = {multiprocess.VARIABLE: str(ROOT / ".data" / "bench" / "metrics")}
    command = web_command("127.0.0.1", PORT)[1:-1]
    if interface:
        command[command.index("--interface") + 1] = interface
    if interface == "wsgi":
        command += ["--blocking-threads", os.environ.get("WEB_THREADS", "4")]
    with process(*command, application, **{**ENVIRONMENT, **counts, **environment}) as running:
        wait_for(f"http://127.0.0.1:{PORT}{ready}")
        yield running


@contextmanager
def worker() -> Iterator["subprocess.Popen[bytes]"]:
    with process("manage.py", "worker") as running:
        yield running


@contextmanager
def receiver() -> Iterator[str]:
    """A fast receiver in a process of its own; `GET /` tells what came."""
    with process("-m", "bench.receiver", str(RECEIVER_PORT)):
        address = f"http://127.0.0.1:{RECEIVER_PORT}"
        wait_for(address)
        yield address


def wait_for(address: str, *, within: float = 30) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            requests.get(address, timeout=2)
            return
        except requests.RequestException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def largest(pid: int) -> float:
    """Return the resident memory of the largest among a process and its children, in MB."""
    return max(memory_of(one) for one in (pid, *children(pid)))


def memory_of(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in path.read_text().split()] if path.exists() else []
