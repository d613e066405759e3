"""`manage.py up`: set everything up, then run the web server and one worker until Ctrl-C."""

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.core.management.base import CommandParser

from reliability.management import demo, operator
from reliability.management.processes import Child, Supervisor
from reliability.metrics import multiprocess

# Threads share two of glibc's arenas, and what a large request needed goes back to the system after it.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}


class Command(BaseCommand):
    help = "Migrate, collect static files, make a first operator, then run the web server and a worker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
        parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8000))
        parser.add_argument("--workers", type=int, default=1, help="worker processes (default: 1)")

    def handle(self, *args: Any, **options: Any) -> None:
        """1. Prepare; offer the demo where all is new. 2. Hand on the address, so that children start none. 3. Run."""
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        is_new = operator.is_missing()
        self._announce(operator.ensure(username=_username(), password=os.environ.get("ADMIN_PASSWORD", "")))
        if is_new and not demo.is_present() and not demo.holds_other():
            self._offer_demo()
        os.environ["DATABASE_URL"] = settings.DATABASE_ADDRESS
        os.environ["SECRET_KEY"] = settings.SECRET_KEY
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        host, port = options["host"], options["port"]
        self.stdout.write(
            f"Backstop runs at http://{host}:{port}/ (console: /admin/, API: /api/docs/). Ctrl-C ends it."
        )
        self.stdout.flush()
        # Of the web processes alone: workers are not scraped.
        counts = os.environ.pop(multiprocess.VARIABLE, "") or str(settings.DATA_DIR / "metrics")
        web = Child("web", web_command(host, port), changes={multiprocess.VARIABLE: counts})
        workers = [Child(f"worker-{i + 1}", worker_command()) for i in range(options["workers"])]
        Supervisor(children=[web, *workers]).run()
        self.stdout.write("Backstop has ended.")

    def _announce(self, password: str | None) -> None:
        if password:
            self.stdout.write(f"First operator: {_username()}  password: {password}  (shown this once)")

    def _offer_demo(self) -> None:
        """Ask whoever sits at a terminal, this once; tell everybody else."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            self.stdout.write("The database is empty. 'manage.py demo' fills it with a made-up week to look at.")
            return
        try:
            answer = input("Fill the console with a made-up week, for a look around? Nothing of it is sent. [y/N] ")
        except EOFError:
            return
        if answer.strip().lower() in ("y", "yes"):
            call_command("demo")


def _username() -> str:
    return os.environ.get("ADMIN_USERNAME") or "admin"


def web_command(host: str, port: int) -> list[str]:
    """Return the web server's command: one process, whose threads keep a database connection each."""
    threads = str(settings.WEB_THREADS)
    options = ["--host", host, "--port", str(port), "--workers", "1", "--blocking-threads", threads]
    quiet = ["--no-ws", "--log-level", "warning", "--workers-kill-timeout", "30", "--backpressure", "512"]
    return [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        *options,
        *quiet,
        "config.wsgi:application",
    ]


def worker_command() -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), "procrastinate", "worker"]
