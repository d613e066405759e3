"""Transactions lock rows in the order of `reliability.core.lock_order`, and no two of them wait for each other."""

import re
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, transaction
from psycopg import errors

from reliability.core import lock_waits
from reliability.core.lock_order import AT_COMMIT, ORDER
from reliability.lanes import lane_lock as held

from .lock_scenarios import SCENARIOS, World, build

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
# Where somebody may wait for a row that is only being inserted: another wants the same key.
KEYED = ("reliability_delivery", "reliability_stripeevent", "reliability_operationtally", "reliability_failurereport")
NOTE = """
CREATE OR REPLACE FUNCTION note_lock() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_row jsonb := to_jsonb(NEW);
BEGIN
    -- A lane's breaker is its lane's; the key of a replay is no key (`Delivery`'s unique index leaves it out).
    IF NOT (TG_TABLE_NAME = 'reliability_breaker' AND v_row ->> 'scope' = 'lane')
            AND NOT (TG_TABLE_NAME = 'reliability_delivery' AND TG_OP = 'INSERT' AND v_row ->> 'source' = 'replay') THEN
        RAISE NOTICE 'lock|%|%', TG_TABLE_NAME, coalesce(v_row ->> 'id', v_row ->> 'name', v_row ->> 'lane_id');
    END IF;
    RETURN NEW;
END $$
"""
LOCKING = re.compile(r'FROM "?(\w+)"?(?:(?!\bFROM\b).)*?\bFOR (?:NO KEY )?UPDATE(?: OF \S+)?( SKIP LOCKED)?', re.DOTALL)


LOCKS = re.compile(r"UPDATE|INSERT|DELETE|backstop_|advisory", re.IGNORECASE)


@pytest.fixture
def noted():
    """Have the database say which rows are written, before they are."""
    with connection.cursor() as cursor:
        cursor.execute(NOTE)
        for table in (*ORDER, *AT_COMMIT):
            events = "INSERT OR UPDATE" if table in KEYED else "UPDATE"
            cursor.execute(f"DROP TRIGGER IF EXISTS a_note ON {table}")
            cursor.execute(
                f"CREATE TRIGGER a_note BEFORE {events} ON {table} FOR EACH ROW EXECUTE FUNCTION note_lock()"
            )
    yield
    with connection.cursor() as cursor:
        for table in (*ORDER, *AT_COMMIT):
            cursor.execute(f"DROP TRIGGER a_note ON {table}")
        cursor.execute("DROP FUNCTION note_lock()")


class Recorder:
    """Which tables a transaction waits for locks in, in that order, and which rows it has locked."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.rows: dict[str, set[str]] = defaultdict(set)
        self.passing: set[str] = set()
        # Tables of which a row was locked without waiting, and where something was waited for while it was held.
        self.passed: set[str] = set()
        self.behind: set[tuple[str, str]] = set()

    def wrap(self, execute, sql, params, many, context):
        found = LOCKING.findall(str(sql))
        # What is passed by is not waited for, wherever it comes.
        self.passing = {table for table, skips in found if skips}
        before = {table: _locked(table) for table, _ in found}
        result = execute(sql, params, many, context)
        for table, rows in before.items():
            new = {row for row, _ in _locked(table) - rows}
            if new:
                self.waits(table, new)
        return result

    def hear(self, diagnostic) -> None:
        if diagnostic.message_primary.startswith("lock|"):
            _, table, row = diagnostic.message_primary.split("|")
            self.waits(table, {row})

    def waits(self, table: str, rows: set[str]) -> None:
        if table in self.passing or (rows and rows <= self.rows[table]):
            self.rows[table] |= rows
            self.passed |= {table} & self.passing
            return
        self.rows[table] |= rows
        self.behind |= {(held, table) for held in self.passed if rank(held) > rank(table)}
        if not self.order or self.order[-1] != table:
            self.order.append(table)


def _locked(table: str) -> set[tuple[str, str]]:
    """Rows of a table, each with who locked it last."""
    with connection.connection.cursor() as cursor:  # not Django's: this is none of the statements that are recorded
        cursor.execute(f"SELECT coalesce(to_jsonb(t) ->> 'id', to_jsonb(t) ->> 'name'), xmax::text FROM {table} t")
        return set(cursor.fetchall())


def rank(table: str) -> int:
    return ORDER.index(table) if table in ORDER else len(ORDER)


@pytest.mark.parametrize("name", SCENARIOS)
def test_rows_are_locked_in_order(noted, name):
    world, recorder = build(), Recorder()
    connection.connection.add_notice_handler(recorder.hear)
    try:
        with transaction.atomic(), connection.execute_wrapper(recorder.wrap):
            SCENARIOS[name](world)
    finally:
        connection.connection.remove_notice_handler(recorder.hear)
    locked = [table for table in recorder.order if table in ORDER or table in AT_COMMIT]
    assert locked == sorted(locked, key=rank)
    assert recorder.behind == set(), "it waits while it holds what comes later"
    if not name.startswith("wake-ups"):
        assert locked


def test_what_locks_in_another_order_is_found_out(noted):
    """The recorder itself: a dead letter before its lane."""
    world, recorder = build(), Recorder()
    with transaction.atomic(), connection.execute_wrapper(recorder.wrap):
        connection.connection.add_notice_handler(recorder.hear)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE reliability_deadletter SET error_code = 'z' WHERE id = %s", [world.letters[0]])
        held.lock(lane_id=world.low.pk)
        connection.connection.remove_notice_handler(recorder.hear)
    assert recorder.order == ["reliability_deadletter", "reliability_lane"]


def test_rows_are_locked_so_that_foreign_keys_checks_pass():
    """Only what is to be deleted, and a bulk operation that waits for its ends, takes the full lock."""
    full = []
    for path in ROOT.glob("reliability/**/*.py"):
        if "migrations" not in path.parts:
            text = path.read_text()
            full += [
                f"{path.parent.name}/{path.name}"
                for _ in re.findall(r"select_for_update\(\)|(?<!KEY )UPDATE(?=[^\n]*SKIP LOCKED)", text)
            ]
    wanted = [
        "alerts/notices.py",
        "bulk/steps.py",
        "dead_letters/archive.py",
        "queue/lost_jobs.py",
        "queue/maintenance.py",
        "retention/runner.py",
    ]
    assert sorted(set(full)) == wanted


class Session(threading.Thread):
    """A scenario in a transaction of its own, which is rolled back.

    It pauses after the `pause`-th of its statements that lock anything.
    """

    def __init__(self, name: str, world: World, *, pause: int = 0) -> None:
        super().__init__(name=name, daemon=True)
        self.world, self.pause = world, pause
        self.paused, self.go_on = threading.Event(), threading.Event()
        self.statements, self.pid = 0, 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with transaction.atomic(), connection.execute_wrapper(self._step):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    self.pid = cursor.fetchone()[0]
                    cursor.execute("SET LOCAL deadlock_timeout = '50ms'")
                self.statements = 0
                SCENARIOS[self.name](self.world)
                with connection.cursor() as cursor:
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                transaction.set_rollback(True)
        except BaseException as error:
            self.error = error
        finally:
            self.paused.set()
            connection.close()

    def _step(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if LOCKS.search(str(sql)):
            self.statements += 1
            if self.statements == self.pause:
                self.paused.set()
                self.go_on.wait(30)
        return result

    def is_stuck(self) -> bool:
        """Whether it waits for a lock."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", [self.pid])
            return cursor.fetchone() is not None


def interleave(world: World, first: str, second: str, pause: int) -> bool:
    """Run `second` while `first` pauses; return whether `first` got so far as to pause."""
    one, two = Session(first, world, pause=pause), Session(second, world)
    one.start()
    one.paused.wait(30)
    paused = one.statements == pause and one.is_alive()
    two.start()
    while two.is_alive() and not (two.pid and two.is_stuck()):
        two.join(0.005)
    one.go_on.set()
    one.join(30)
    two.join(30)
    assert not one.is_alive()
    assert not two.is_alive()
    for session, other in ((one, two), (two, one)):
        assert not is_deadlock(session.error), f"{session.name} and {other.name}, after statement {pause}"
        assert session.error is None or is_expected(session.error), session.error
    return paused


def is_deadlock(error: BaseException | None) -> bool:
    return error is not None and isinstance(error.__cause__, errors.DeadlockDetected)


def is_expected(error: BaseException) -> bool:
    """A dispatcher, or a job, that gives way to whoever was first."""
    return isinstance(error, held.LaneLocked) or (isinstance(error, DatabaseError) and lock_waits.is_conflict(error))


NAMES = list(SCENARIOS)


@pytest.mark.parametrize("first", NAMES)
def test_no_two_wait_for_each_other(first):
    """Each pair once: where two wait for each other, one of them waits between its first lock and its second."""
    world = build()
    for second in NAMES[NAMES.index(first) :]:
        pause = 1
        while interleave(world, first, second, pause):
            pause += 1
    assert pause > 1


def test_two_that_wait_for_each_other_are_found_out(monkeypatch):
    """The interleaving itself: dead letters, in both orders."""

    def update(ids):
        for one in ids:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE reliability_deadletter SET error_code = 'z' WHERE id = %s", [one])

    monkeypatch.setitem(SCENARIOS, "up", lambda world: update(world.letters))
    monkeypatch.setitem(SCENARIOS, "down", lambda world: update(world.letters[::-1]))
    with pytest.raises(AssertionError, match="after statement 2"):
        interleave(build(), "up", "down", 2)
