"""Applies retention rules in batches, each a short transaction of its own.

Several clean-ups can run at once, because a batch skips rows that another one has locked. Each can stop after any
batch: the next clean-up continues. A rule goes through its table once, in the order of an index, so that no batch
reads again what an earlier one deleted or left. The rules are in `rules`; other packages add theirs with `register`.
"""

# ruff: noqa: S608  # statements are put together from our own words

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.conf import settings
from django.db import Error, connection, transaction

from config.database.sqlstates import is_unavailable
from reliability.errors import BackstopError
from reliability.models import ids
from reliability.policies import pacing

# Rows that are due are counted up to the first number, and for at most the second (seconds).
COUNT_LIMIT, COUNT_SECONDS = 100_000, 5
# A batch that waits this long (seconds) for a lock, or is the victim of a deadlock, is tried again with fewer rows.
LOCK_SECONDS, MAX_TRIES = 3, 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The number of rows that a batch handled, and where the next one begins; `None` means that no rows are left."""

    rows: int
    after: Any = None


class CleanupRule(Protocol):
    """A rule as the runner uses it. If its `age` is `None`, rows are kept forever."""

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def age(self) -> Callable[[], timedelta | None]: ...

    def count(self, *, now: datetime, limit: int) -> int:
        """Return the number of rows that are due, up to `limit`."""

    def batch(self, *, now: datetime, size: int, after: Any) -> BatchResult:
        """Handle up to about `size` rows from `after` on (`None`: from the start), in one short transaction."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for the rows of a table that are older than `age`.

    `where` is a condition on the table `t` with the parameters `%(cutoff)s`, `%(now)s` and `%(id)s`. The latter is an
    upper bound of the ids that are old enough: a UUID, or a number if `clock` names a time column that rises with the
    ids. It lets an index on the id bound the scan. Rows are handled in the order of the indexed column `order`. `act`
    are the statements for a batch; its ids are `%(ids)s`.
    """

    name: str
    what: str
    age: Callable[[], timedelta | None]
    table: str
    where: str
    act: tuple[str, ...]
    order: str = "id"
    key: str = "id"
    clock: str = ""

    def count(self, *, now: datetime, limit: int) -> int:
        values = self._values(now)
        return _number(f"SELECT count(*) FROM (SELECT 1 FROM {self._due()} LIMIT {int(limit)}) AS due", values)

    def batch(self, *, now: datetime, size: int, after: Any) -> BatchResult:
        values = self._values(now) if after is None else after[1]
        with transaction.atomic(), connection.cursor() as cursor:
            # After a crash the batch is simply repeated, so its commit need not wait for the disk. The lock timeout
            # keeps it from queueing behind a long transaction, with others queueing behind the batch.
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; SET LOCAL synchronous_commit = off")
            cursor.execute(self._choice(size, begun=after is not None), {**values, "after": after and after[0]})
            rows = cursor.fetchall()
            chosen = {**values, "ids": [row[0] for row in rows]}
            for statement in self.act if rows else ():
                cursor.execute(statement, chosen)
        return BatchResult(len(rows), (rows[-1][1], values) if len(rows) == size else None)

    def _due(self) -> str:
        return f"{self.table} t WHERE {self.where}"

    def _choice(self, size: int, *, begun: bool) -> str:
        # `>=`, because several rows may have the same value. Those that were handled before no longer match.
        begin = f" AND t.{self.order} >= %(after)s" if begun else ""
        return (
            f"SELECT t.{self.key}, t.{self.order} FROM {self._due()}{begin}"
            f" ORDER BY t.{self.order} LIMIT {int(size)} FOR UPDATE OF t SKIP LOCKED"
        )

    def _values(self, now: datetime) -> Mapping[str, Any]:
        age = self.age()
        if age is None:
            raise ValueError(f"{self.name}: its rows are kept forever.")
        cutoff = now - age
        bound: Any = ids.before(cutoff)
        if self.clock:
            bound = _first_after(table=self.table, column=self.clock, cutoff=cutoff)
        return {"cutoff": cutoff, "now": now, "id": bound}


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of a rule: `rows` handled (or due, in a dry run), and rows `left`, counted up to `COUNT_LIMIT`.

    `left` is `None` if counting took too long. With an `error`, the batches before it are committed.
    """

    name: str
    what: str
    age: timedelta | None
    rows: int | None
    left: int | None = 0
    seconds: float = 0.0
    stopped: bool = False
    error: str = ""


Watch = Callable[[str, int], None]
POLL_SECONDS = 0.5


@dataclass(slots=True)
class Pace:
    """The pace of a clean-up: the share of time that it works (`load`), when to stop, and a progress callback."""

    load: float = field(default_factory=lambda: settings.CLEANUP_LOAD)
    stopping: Callable[[], bool] = lambda: False
    watch: Watch = lambda *_: None

    def is_stopping(self) -> bool:
        return self.stopping()

    def sleep(self, seconds: float) -> None:
        """Sleep this many seconds, or until the clean-up has to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.is_stopping():
            time.sleep(min(left, POLL_SECONDS))


def days(setting: str) -> Callable[[], timedelta | None]:
    """Return a function that reads an age in days from a setting; 0 means forever."""

    def read() -> timedelta | None:
        number = getattr(settings, setting)
        return timedelta(days=number) if number else None

    return read


def delete_rule(  # what a rule is made of
    *, name: str, what: str, age: Callable[[], timedelta | None], table: str, where: str, order: str = "id", **more: Any
) -> Rule:
    """Return a rule that executes the statements `first`, then deletes the rows."""
    first, key = more.pop("first", ()), more.get("key", "id")
    gone = f"DELETE FROM {table} WHERE {key} = ANY(%(ids)s)"
    return Rule(name, what, age, table, where, (*first, gone), order, **more)


_rules: dict[str, CleanupRule] = {}


def register(*, rule: CleanupRule) -> None:
    """Register a rule; it is applied after those registered before."""
    _rules[rule.name] = rule


def rules() -> tuple[CleanupRule, ...]:
    return tuple(_rules.values())


def cleanup(
    *, now: datetime, dry_run: bool = False, only: Collection[str] = (), pace: Pace | None = None
) -> Iterator[RuleResult]:
    """Apply each rule (or those in `only`) in turn, and yield its result; with `dry_run`, only count.

    A rule that fails does not stop the others: its result has the error.
    """
    going = pace or Pace()
    for rule in rules():
        if (only and rule.name not in only) or going.is_stopping():
            continue
        if dry_run:
            age = rule.age()
            yield RuleResult(rule.name, rule.what, age, 0 if age is None else count_due(rule=rule, now=now))
            continue
        done = apply(rule=rule, now=now, pace=going)
        if done.rows:
            logger.info("cleaned_up", extra={"rule": rule.name, "rows": done.rows, "left": done.left})
        yield done


def count_due(*, rule: CleanupRule, now: datetime) -> int | None:
    """Return the number of due rows, up to `COUNT_LIMIT`; `None` if counting takes longer than `COUNT_SECONDS`."""
    with suppress(Error), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{COUNT_SECONDS}s'")
        found = rule.count(now=now, limit=COUNT_LIMIT)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        return found
    return None


def apply(*, rule: CleanupRule, now: datetime, pace: Pace | None = None) -> RuleResult:
    """Apply a rule batch by batch, until no rows are left or it has to stop."""
    going, age, begun = pace or Pace(), rule.age(), time.monotonic()
    total, error = 0, ""
    if age is None:
        return RuleResult(rule.name, rule.what, None, 0)
    try:
        for rows in _batches(rule, now, going):
            total += rows
            going.watch(rule.name, rows)
    except (BackstopError, Error, OSError) as problem:
        logger.exception("cleanup_failed", extra={"rule": rule.name})
        error = " ".join(str(problem).split())[:500] or type(problem).__name__
    seconds, stopped = time.monotonic() - begun, going.is_stopping()
    return RuleResult(rule.name, rule.what, age, total, count_due(rule=rule, now=now), seconds, stopped, error)


def _batches(rule: CleanupRule, now: datetime, pace: Pace) -> Iterator[int]:
    """Run batches, and yield the rows of each. Sizes follow the duration of the batch before; a pause follows each."""
    size, after, failures = pacing.FIRST, None, 0
    while not pace.is_stopping():
        begun = time.monotonic()
        try:
            result = rule.batch(now=now, size=size, after=after)
        except Error as error:
            failures += 1
            if failures == MAX_TRIES or connection.in_atomic_block or not is_unavailable(error):
                raise
            connection.close_if_unusable_or_obsolete()
            # Fewer rows need fewer locks for a shorter time.
            size = max(size // 4, 1)
            pace.sleep(failures)
            continue
        seconds = time.monotonic() - begun
        yield result.rows
        if result.after is None:
            return
        size, after, failures = pacing.next_size(size=size, seconds=seconds), result.after, 0
        pace.sleep(pacing.pause(seconds=seconds, load=pace.load))


def _first_after(*, table: str, column: str, cutoff: datetime) -> int:
    """Return about the first id of a table whose time is not before the cutoff.

    A binary search over the ids, which rise with time, replaces an index on the time: it takes some thirty look-ups.
    """
    low, high = (_number(f"SELECT coalesce({edge}(id), 0) FROM {table}", {}) for edge in ("min", "max"))
    high += 1
    at = f"SELECT coalesce(min(id), 0) FROM (SELECT id, {column} FROM {table} WHERE id >= %(id)s"
    at += f" ORDER BY id LIMIT 1) AS one WHERE {column} < %(cutoff)s"
    while low < high:
        middle = (low + high) // 2
        if found := _number(at, {"id": middle, "cutoff": cutoff}):
            low = max(found, middle) + 1
        else:
            high = middle
    return low


def _number(statement: str, values: Mapping[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.fetchone()[0])
