"""What is kept for how long: rules, each applied in batches that are short transactions of their own.

Several may clean up at once (a batch passes by the rows that another holds), and each may stop after any batch: what
is left is for the next time. A rule goes once through its table, in the order of an index, so that no batch looks
again at what an earlier one left or deleted. Which rules there are is in `retention_rules`; other rooms add theirs by
`register`.
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

# So many rows are counted at most, and for so long.
COUNTED, COUNT_SECONDS = 100_000, 5
# A batch that waits for others' locks, or is chosen to end a deadlock, is tried again, smaller.
LOCK_SECONDS, TRIES = 3, 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a batch came to: rows that went, and where the next begins; `None`: there is no more."""

    rows: int
    after: Any = None


class Sweep(Protocol):
    """A rule, as clean-up sees it. `None` for an age: it is kept for good now."""

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def age(self) -> Callable[[], timedelta | None]: ...

    def count(self, *, now: datetime, limit: int) -> int:
        """Return how many rows are due, up to `limit`."""

    def batch(self, *, now: datetime, size: int, after: Any) -> Swept:
        """Take up to about `size` rows, from `after` on (`None`: from the beginning), in one short transaction."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of a table, once they are older than `age`.

    `where` is a condition on the table, as `t`, by `%(cutoff)s` and `%(now)s`, and by `%(id)s`, above which no id
    (a UUID, or where `clock` names a column that rises with the ids, a number) is old enough. The rows are visited
    in the order of `order`, which has an index. `act` are the statements for a batch, whose ids are `%(ids)s`.
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

    def batch(self, *, now: datetime, size: int, after: Any) -> Swept:
        values = self._values(now) if after is None else after[1]
        with transaction.atomic(), connection.cursor() as cursor:
            # What is deleted once more after a crash does no harm; so nothing waits for the disk.
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; SET LOCAL synchronous_commit = off")
            cursor.execute(self._choice(size, begun=after is not None), {**values, "after": after and after[0]})
            rows = cursor.fetchall()
            chosen = {**values, "ids": [row[0] for row in rows]}
            for statement in self.act if rows else ():
                cursor.execute(statement, chosen)
        return Swept(len(rows), (rows[-1][1], values) if len(rows) == size else None)

    def _due(self) -> str:
        return f"{self.table} t WHERE {self.where}"

    def _choice(self, size: int, *, begun: bool) -> str:
        begin = f" AND t.{self.order} >= %(after)s" if begun else ""
        return (
            f"SELECT t.{self.key}, t.{self.order} FROM {self._due()}{begin}"
            f" ORDER BY t.{self.order} LIMIT {int(size)} FOR UPDATE OF t SKIP LOCKED"
        )

    def _values(self, now: datetime) -> Mapping[str, Any]:
        age = self.age()
        if age is None:
            raise ValueError(f"{self.name}: it is kept for good.")
        cutoff = now - age
        bound: Any = ids.before(cutoff)
        if self.clock:
            bound = _first_after(table=self.table, column=self.clock, cutoff=cutoff)
        return {"cutoff": cutoff, "now": now, "id": bound}


@dataclass(frozen=True, slots=True)
class Done:
    """What a rule came to: rows that went, or, of a dry run, would go; how many are `left`, up to `COUNTED`.

    `left` is `None` where counting took too long. `error` says what went wrong; what had gone by then is gone.
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
NAP = 0.5


@dataclass(slots=True)
class Pace:
    """How a clean-up goes: the share of the time that it works, what says that it is to stop, who watches."""

    load: float = field(default_factory=lambda: settings.CLEANUP_LOAD)
    stopping: Callable[[], bool] = lambda: False
    watch: Watch = lambda *_: None

    def is_stopping(self) -> bool:
        return self.stopping()

    def rest(self, seconds: float) -> None:
        """Rest so long, or until it is to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.is_stopping():
            time.sleep(min(left, NAP))


def days(setting: str) -> Callable[[], timedelta | None]:
    """Return a reader of an age that a setting names in days; 0 days mean for good."""

    def read() -> timedelta | None:
        number = getattr(settings, setting)
        return timedelta(days=number) if number else None

    return read


def pruning(  # what a rule is made of
    *, name: str, what: str, age: Callable[[], timedelta | None], table: str, where: str, order: str = "id", **more: Any
) -> Rule:
    """Return a rule that deletes a table's rows, after the statements `first`."""
    first, key = more.pop("first", ()), more.get("key", "id")
    gone = f"DELETE FROM {table} WHERE {key} = ANY(%(ids)s)"
    return Rule(name, what, age, table, where, (*first, gone), order, **more)


_rules: dict[str, Sweep] = {}


def register(*, rule: Sweep) -> None:
    """Add a rule, after those that are there."""
    _rules[rule.name] = rule


def rules() -> tuple[Sweep, ...]:
    return tuple(_rules.values())


def cleanup(
    *, now: datetime, dry_run: bool = False, only: Collection[str] = (), pace: Pace | None = None
) -> Iterator[Done]:
    """Apply each rule (or those named) in turn, and say what it came to; with `dry_run`, only count.

    A rule that fails says so and keeps no other from its turn.
    """
    going = pace or Pace()
    for rule in rules():
        if (only and rule.name not in only) or going.is_stopping():
            continue
        done = _look(rule, now) if dry_run else apply(rule=rule, now=now, pace=going)
        if done.rows and not dry_run:
            logger.info("cleaned_up", extra={"rule": rule.name, "rows": done.rows, "left": done.left})
        yield done


def _look(rule: Sweep, now: datetime) -> Done:
    age = rule.age()
    return Done(rule.name, rule.what, age, 0 if age is None else counted(rule=rule, now=now))


def counted(*, rule: Sweep, now: datetime) -> int | None:
    """Return how many rows are due, up to `COUNTED`; `None` where that cannot be told within `COUNT_SECONDS`."""
    with suppress(Error), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{COUNT_SECONDS}s'")
        found = rule.count(now=now, limit=COUNTED)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        return found
    return None


def apply(*, rule: Sweep, now: datetime, pace: Pace | None = None) -> Done:
    """Apply a rule, batch by batch, until there is no more or it is stopped."""
    going, age, begun = pace or Pace(), rule.age(), time.monotonic()
    total, error = 0, ""
    if age is None:
        return Done(rule.name, rule.what, None, 0)
    try:
        for rows in _batches(rule, now, going):
            total += rows
            going.watch(rule.name, rows)
    except (BackstopError, Error, OSError) as problem:
        logger.exception("cleanup_failed", extra={"rule": rule.name})
        error = " ".join(str(problem).split())[:500] or type(problem).__name__
    seconds, stopped = time.monotonic() - begun, going.is_stopping()
    return Done(rule.name, rule.what, age, total, counted(rule=rule, now=now), seconds, stopped, error)


def _batches(rule: Sweep, now: datetime, pace: Pace) -> Iterator[int]:
    """Do batches as large as the last one's time suggests, each followed by a rest; yield how many rows went."""
    size, after, failures = pacing.FIRST, None, 0
    while not pace.is_stopping():
        begun = time.monotonic()
        try:
            swept = rule.batch(now=now, size=size, after=after)
        except Error as error:
            failures += 1
            if failures == TRIES or connection.in_atomic_block or not is_unavailable(error):
                raise
            connection.close_if_unusable_or_obsolete()
            size = max(size // 4, 1)
            pace.rest(failures)
            continue
        seconds = time.monotonic() - begun
        yield swept.rows
        if swept.after is None:
            return
        size, after, failures = pacing.next_size(size=size, seconds=seconds), swept.after, 0
        pace.rest(pacing.pause(seconds=seconds, load=pace.load))


def _first_after(*, table: str, column: str, cutoff: datetime) -> int:
    """Return about the first id of a table whose moment is not before the cutoff.

    Ids that rise with time spare an index on the moment: some thirty look-ups by id find the place.
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
