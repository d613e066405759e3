"""The files of `reliability/sql` and the functions and triggers of a migrated database are the same."""

import re
from pathlib import Path

import pytest
from django.db import connection

from reliability import sql

ROOT = Path(__file__).resolve().parents[2]
# All of the schema's that are not Procrastinate's.
FUNCTIONS = """
SELECT proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', pg_get_functiondef(p.oid)
FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND proname NOT LIKE 'procrastinate%'
"""
TRIGGERS = """
SELECT tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) || ' ' || tgenabled::text
FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text NOT LIKE 'procrastinate%'
"""
DROP = "SELECT 'DROP FUNCTION ' || string_agg(oid::regprocedure::text, ', ') || ' CASCADE' FROM pg_proc WHERE {}"
OURS = "pronamespace = 'public'::regnamespace AND proname NOT LIKE 'procrastinate%'"


def catalog() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(FUNCTIONS)
        functions = cursor.fetchall()
        cursor.execute(TRIGGERS)
        return dict(functions + cursor.fetchall())


def install_anew() -> None:
    with connection.cursor() as cursor:
        cursor.execute(DROP.format(OURS))
        cursor.execute(cursor.fetchone()[0])  # with CASCADE, which drops the triggers
        assert catalog() == {}
        cursor.execute(sql.current())


def test_the_migrations_make_what_the_files_say(db):
    migrated = catalog()
    assert len(migrated) > 40
    install_anew()
    assert catalog() == migrated, "A file of reliability/sql and the last migration that installs it differ."


def test_the_files_can_be_executed_again(db):
    before = catalog()
    with connection.cursor() as cursor:
        cursor.execute(sql.current())
    assert catalog() == before


def test_a_change_of_one_without_the_other_is_found(db):
    before = catalog()
    with connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE FUNCTION backstop_uuid7() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'")
    changed = catalog()
    assert changed != before
    install_anew()
    assert catalog() == before


@pytest.mark.parametrize(
    "pattern", [r"CREATE\s+(OR\s+REPLACE\s+)?FUNCTION", r"CREATE\s+(OR\s+REPLACE\s+)?(CONSTRAINT\s+)?TRIGGER"]
)
def test_no_function_and_no_trigger_is_written_anywhere_else(pattern):
    paths = [path for top in ("reliability", "scheduling", "config", "bench") for path in ROOT.glob(f"{top}/**/*")]
    texts = {path: path.read_text() for path in paths if path.suffix in (".py", ".sql")}
    found = {path for path, text in texts.items() if re.search(pattern, text, re.IGNORECASE)}
    assert found
    assert {path.relative_to(ROOT).parts[:2] for path in found} == {("reliability", "sql")}
