"""`manage.py up`: set everything up, then run the web server, a worker and the pinger until Ctrl-C."""

import os
import socket
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.core.management.base import CommandParser
from django.db import connections

from config import embedded
from config.front import sockets
from reliability import checks
from reliability.management import demo, first_operator
from reliability.management.embedded_database import Database
from reliability.management.supervisor import Child, Supervisor
from reliability.metrics import multiprocess

# Threads share two of glibc's arenas, and what a large request needed goes back to the system after it.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}

MAX_PORT = 65_535


class Command(BaseCommand):
    help = "Migrate, collect static files, make a first operator, then run the web server, a worker and the pinger."
    requires_system_checks = [checks.CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
        parser.add_argument("--port", type=port_of, default=os.environ.get("PORT") or "8000")
        parser.add_argument("--workers", type=int, default=1, help="worker processes (default: 1)")
        parser.add_argument(
            "--no-pinger", action="store_true", help="leave the pings of cron jobs to an external cron service"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """1. Prepare; offer the demo where all is new. 2. Hand on the address, so that children start none. 3. Run."""
        checks.must_be_usable()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        is_new = first_operator.is_missing()
        self._announce(first_operator.ensure(username=_username(), password=os.environ.get("ADMIN_PASSWORD", "")))
        if is_new and not demo.is_present() and not demo.holds_other():
            self._offer_demo()
        os.environ["DATABASE_URL"] = settings.DATABASE_ADDRESS
        os.environ["SECRET_KEY"] = settings.SECRET_KEY
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        connections.close_all()
        host, port = options["host"], options["port"]
        # Of the web processes alone: workers are not scraped.
        counts = os.environ.pop(multiprocess.VARIABLE, "") or str(settings.DATA_DIR / "metrics")
        children = [Child("web", web_command(host, port), changes={multiprocess.VARIABLE: counts})]
        children += [Child(f"worker-{i + 1}", manage_command("worker")) for i in range(options["workers"])]
        if not options["no_pinger"]:
            children.append(Child("pinger", manage_command("pinger")))
        Supervisor(children=children, tended=[*_databases(), Announcement(host, port, self._say)]).run()
        self._say("Backstop has ended.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

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


def port_of(text: str) -> int:
    """Read a port. A text that is none is not repeated: from the environment, it may be another variable's value."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT):
        raise ArgumentTypeError(f"it, or PORT in the environment, is no port: a whole number from 1 to {MAX_PORT}")
    return int(text)


def _username() -> str:
    return os.environ.get("ADMIN_USERNAME") or "admin"


def _databases() -> list[Database]:
    """Return the embedded server, if it is in use: another one is looked after by whoever runs it."""
    if not settings.EMBEDDED_DATABASE:
        return []
    return [
        Database(directory=settings.EMBEDDED_DIRECTORY, socket_path=embedded.socket_path(settings.DATABASE_ADDRESS))
    ]


class Announcement:
    """Says where Backstop runs, once the web server answers."""

    def __init__(self, host: str, port: int, say: Callable[[str], None]) -> None:
        self.host, self.port, self.say = host, port, say
        self.said = False

    def tend(self) -> None:
        if not self.said and self._answers():
            self.said = True
            where = f"[{self.host}]" if ":" in self.host else self.host
            text = f"Backstop runs at http://{where}:{self.port}/ (console: /admin/, API: /api/docs/). Ctrl-C ends it."
            self.say(text)

    def end(self) -> None:
        """Nothing is under way."""

    def _answers(self) -> bool:
        """Whether a request gets an answer, whichever: a server that cannot be reached here may be so elsewhere."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # compared, not bound to
        request = f"GET /healthz HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
        try:
            with socket.create_connection((own, self.port), timeout=0.5) as made:
                made.sendall(request.encode())
                return bool(made.recv(1))
        except OSError:
            return False


def web_command(host: str, port: int) -> list[str]:
    """Return the web server's command: one process, whose threads keep a database connection each.

    The threads are the application's own: it reads each request under limits before one of them sees it.
    """
    options = {
        "--interface": "asgi",
        "--host": host,
        "--port": port,
        "--workers": 1,
        # Granian takes no other number with this interface; an environment variable could name one.
        "--blocking-threads": 1,
        "--http": 1,
        "--backpressure": sockets.connections(),
        "--backlog": 1024,
        "--http1-header-read-timeout": 1000 * settings.WEB_HEADER_SECONDS,
        "--http1-buffer-size": settings.WEB_HEADER_BYTES,
        "--workers-kill-timeout": 30,
        "--log-level": "warning",
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "granian", "--no-ws", *words, "config.asgi:application"]


def manage_command(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
