"""The tests' database: fast rather than durable, cloned from a migrated template, emptied by deletes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.db import connections
from fasteners import InterProcessLock
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "template_"
# Above this size in bytes, TRUNCATE costs less than DELETE, and leaves no dead rows.
LARGE = 1_000_000
# A crash of the operating system may damage data without these. The data of tests are made anew then.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum_naptime": "1h",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
    "jit": "off",
}
# The rows that a migrated database holds are kept here, table by table.
SAVED = "tests_saved"

EMPTY = """
DO $body$
DECLARE
    v_tables text[] := {tables};
    v_saved text[] := {saved};
    v_table text;
    v_found boolean;
    v_filled text[] := '{{}}';
    v_is_large boolean := false;
BEGIN
    -- Without triggers and foreign keys: the order does not matter, and nothing is counted.
    SET LOCAL session_replication_role = replica;
    -- As TRUNCATE would, this waits for transactions that have not ended.
    EXECUTE 'LOCK TABLE ' || array_to_string(v_tables || v_saved, ',') || ' IN ACCESS EXCLUSIVE MODE';
    FOREACH v_table IN ARRAY v_tables LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', v_table) INTO v_found;
        IF v_found THEN
            v_filled := v_filled || v_table;
        END IF;
        v_is_large := v_is_large OR pg_relation_size(v_table::regclass) > {large};
    END LOOP;
    IF v_is_large THEN
        EXECUTE 'TRUNCATE ' || array_to_string(v_tables || v_saved, ',');
    ELSE
        FOREACH v_table IN ARRAY v_filled LOOP
            EXECUTE format('DELETE FROM %s', v_table);
        END LOOP;
    END IF;
    FOREACH v_table IN ARRAY v_saved LOOP
        EXECUTE format(
            'SELECT EXISTS (SELECT * FROM %1$s EXCEPT ALL SELECT * FROM {schema}.%1$s)'
            ' OR EXISTS (SELECT * FROM {schema}.%1$s EXCEPT ALL SELECT * FROM %1$s)', v_table) INTO v_found;
        IF v_found THEN
            EXECUTE format('DELETE FROM %s', v_table);
            EXECUTE format('INSERT INTO %1$s OVERRIDING SYSTEM VALUE SELECT * FROM {schema}.%1$s', v_table);
        END IF;
    END LOOP;
END $body$
"""


def make_fast(address: str) -> None:
    """Set a server of the tests to `FAST`."""
    with psycopg.connect(address, autocommit=True) as connection:
        for name, value in FAST.items():
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")


def template(address: str) -> str:
    """Return the name of a migrated database on the server at `address`, to clone; make it if it is missing.

    It stays for the next run. Its name holds a digest of the migrations and of the requirements.
    """
    name = f"{PREFIX}{_digest()}"
    lock = InterProcessLock(ROOT / ".data" / "tests" / ".template.lock")
    with lock, psycopg.connect(address, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return name
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
        for old in [row[0] for row in rows]:  # another digest's, or one whose migration was cut off
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(old)))
        unfinished = f"{name}_unfinished"
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
        _migrate(urlunsplit(urlsplit(address)._replace(path=f"/{unfinished}")))
        connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(name))
        )
    return name


def clone(address: str, name: str) -> str:
    """Make a migrated database of this name on the server at `address`; return its address."""
    base = template(address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(base)))
    return urlunsplit(urlsplit(address)._replace(path=f"/{name}"))


class Emptier:
    """Puts the database back to what migrations leave, for tests that commit.

    Django's `flush` truncates every table, which makes some 300 files anew, and then makes permissions and content
    types again: more than most tests take. Here only rows that are there are deleted.
    """

    def __init__(self) -> None:
        """Save what the migrated database holds."""
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "SELECT quote_ident(tablename) FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'django_migrations' ORDER BY tablename"
            )
            tables = [row[0] for row in cursor.fetchall()]
            saved = []
            cursor.execute(f"DROP SCHEMA IF EXISTS {SAVED} CASCADE; CREATE SCHEMA {SAVED}")
            for table in tables:
                cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")
                if cursor.fetchone()[0]:
                    saved.append(table)
                    cursor.execute(f"CREATE TABLE {SAVED}.{table} AS SELECT * FROM {table}")
        others = [table for table in tables if table not in saved]
        self.statement = EMPTY.format(tables=_array(others), saved=_array(saved), large=LARGE, schema=SAVED)

    def empty(self) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(self.statement)


def _array(tables: list[str]) -> str:
    return "ARRAY[" + ",".join(f"'{table}'" for table in tables) + "]::text[]"


def _digest() -> str:
    found = hashlib.sha256((ROOT / "requirements.txt").read_bytes())
    files = [*ROOT.glob("*/migrations/**/*.py"), *ROOT.glob("reliability/sql/**/*.sql"), *ROOT.glob("*/models/*.py")]
    for path in sorted({*files, ROOT / "scheduling" / "models.py", ROOT / "config" / "settings.py"}):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _migrate(address: str) -> None:
    values = {**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "config.settings"}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=values, check=True)
