"""`manage.py up`: set up everything, then run the web server, a worker and the pinger until Ctrl-C."""

import os
import socket
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.core.management.base import CommandParser
from django.db import connections

from config import embedded
from config.front import sockets
from reliability import checks
from reliability.management import demo, first_operator, static_files
from reliability.management.embedded_database import Database
from reliability.management.supervisor import Child, Supervisor
from reliability.metrics import multiprocess

# glibc: threads share two arenas, and memory of a large request goes back to the system afterwards.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}

MAX_PORT = 65_535


class Command(BaseCommand):
    help = (
        "Apply migrations, collect static files, create the first operator, then run the web server, a worker and the"
        " pinger."
    )
    requires_system_checks = [checks.CONFIGURATION]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
        parser.add_argument("--port", type=port_of, default=os.environ.get("PORT") or "8000")
        parser.add_argument("--workers", type=int, default=1, help="number of worker processes (default: 1)")
        parser.add_argument(
            "--no-pinger", action="store_true", help="do not ping cron jobs; an external cron service does"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare the database and the files, offer the demo on a new installation, then run the processes."""
        checks.must_be_usable()
        self._say("Applying migrations and collecting static files …")
        # At once: one mostly waits for PostgreSQL, the other compresses files. No thread is left when children start.
        with ThreadPoolExecutor(max_workers=1) as pool:
            collecting = pool.submit(static_files.collect)
            call_command("migrate", verbosity=0)
            collecting.result()
        is_new = first_operator.is_missing()
        self._announce(first_operator.ensure(username=_username(), password=os.environ.get("ADMIN_PASSWORD", "")))
        if is_new and not demo.is_present() and not demo.holds_other():
            self._offer_demo()
        # The children connect to this database, and do not start another.
        os.environ["DATABASE_URL"] = settings.DATABASE_ADDRESS
        os.environ["SECRET_KEY"] = settings.SECRET_KEY
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        connections.close_all()
        host, port = options["host"], options["port"]
        # Only the web processes share their counters: Prometheus does not scrape workers.
        counts = os.environ.pop(multiprocess.VARIABLE, "") or str(settings.DATA_DIR / "metrics")
        children = [Child("web", web_command(host, port), changes={multiprocess.VARIABLE: counts})]
        children += [Child(f"worker-{i + 1}", manage_command("worker")) for i in range(options["workers"])]
        if not options["no_pinger"]:
            children.append(Child("pinger", manage_command("pinger")))
        self._say(f"Starting {', '.join(child.name for child in children)} …")
        Supervisor(children=children, tended=[*_databases(), Announcement(host, port, self._say)]).run()
        self._say("Backstop has stopped.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _announce(self, password: str | None) -> None:
        if password:
            self.stdout.write(f"First operator: {_username()}  password: {password}  (shown only once)")

    def _offer_demo(self) -> None:
        """Ask at a terminal, once; without a terminal, print how to fill the demo."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            self.stdout.write("The database is empty. './manage.py demo' fills it with a week of demo data.")
            return
        try:
            answer = input("Fill the console with a week of demo data? None of it is sent. [y/N] ")
        except EOFError:
            return
        if answer.strip().lower() in ("y", "yes"):
            call_command("demo")


def port_of(text: str) -> int:
    """Read a port. An error does not repeat the text: it may be a secret that was put into PORT by mistake."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT):
        raise ArgumentTypeError(f"--port, or PORT in the environment, must be a whole number from 1 to {MAX_PORT}")
    return int(text)


def _username() -> str:
    return os.environ.get("ADMIN_USERNAME") or "admin"


def _databases() -> list[Database]:
    """Return the embedded server, if it is in use."""
    if not settings.EMBEDDED_DATABASE:
        return []
    return [
        Database(directory=settings.EMBEDDED_DIRECTORY, socket_path=embedded.socket_path(settings.DATABASE_ADDRESS))
    ]


class Announcement:
    """Prints the address of Backstop as soon as the web server answers."""

    def __init__(self, host: str, port: int, say: Callable[[str], None]) -> None:
        self.host, self.port, self.say = host, port, say
        self.said = False

    def tend(self) -> None:
        if not self.said and self._answers():
            self.said = True
            where = f"[{self.host}]" if ":" in self.host else self.host
            text = f"Backstop runs at http://{where}:{self.port}/ (console: /admin/, API: /api/docs/). Ctrl-C stops it."
            self.say(text)

    def end(self) -> None:
        """Has nothing to end."""

    def _answers(self) -> bool:
        """Whether the web server answers, with whatever status."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # compared, not bound to
        request = f"GET /healthz HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
        try:
            with socket.create_connection((own, self.port), timeout=0.5) as made:
                made.sendall(request.encode())
                return bool(made.recv(1))
        except OSError:
            return False


def web_command(host: str, port: int) -> list[str]:
    """Return the web server's command: one process, whose threads keep one database connection each.

    The application has its own threads: it reads each request under limits before a thread handles it.
    """
    options = {
        "--interface": "asgi",
        "--host": host,
        "--port": port,
        "--workers": 1,
        # Granian allows no other number with this interface; set here, since an environment variable could change it.
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
