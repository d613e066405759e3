"""What is kept for how long: rules, each applied in batches that are short transactions of their own.

Several may clean up at once (a batch passes by the rows that another holds), and each may stop anywhere: what is left
is for the next time. A rule names one batch as a statement; other rooms add rules of their own by `register`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from reliability.models import ids

BATCH = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """What goes, once it is older than `age`, and where to.

    `matching` selects the ids that are due, by `%(cutoff)s` and `%(now)s`, and by `%(id)s`, above which no id is old
    enough (for ids that order by time); `act` is the statement for one batch of them, in which `{batch}` stands for
    the ids.
    """

    name: str
    what: str
    age: Callable[[], timedelta]
    matching: str
    act: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a rule came to: rows that went, or, of a dry run, would go."""

    name: str
    what: str
    rows: int


def days(setting: str) -> Callable[[], timedelta]:
    """Return a reader of an age that a setting names in days."""
    return lambda: timedelta(days=getattr(settings, setting))


def pruning(*, name: str, what: str, age: Callable[[], timedelta], table: str, where: str, order: str = "id") -> Rule:
    """Return a rule that deletes a table's rows."""
    matching = f"SELECT id FROM {table} WHERE {where} ORDER BY {order}"  # noqa: S608  # the house's own names
    return Rule(name, what, age, matching, f"DELETE FROM {table} WHERE id IN ({{batch}})")  # noqa: S608  # as above


STRIPE_PAYLOADS = Rule(
    name="stripe_payloads",
    what="payloads of Stripe events scrubbed",
    age=days("STRIPE_PAYLOAD_RETENTION_DAYS"),
    matching="SELECT id FROM reliability_stripeevent"
    " WHERE scrubbed_at IS NULL AND id < %(id)s AND received_at < %(cutoff)s ORDER BY id",
    act="UPDATE reliability_stripeevent SET payload = '', scrubbed_at = %(now)s WHERE id IN ({batch})",
)
STRIPE_REPEATS = pruning(
    name="stripe_repeats",
    what="repeats of Stripe events deleted",
    age=days("STRIPE_REPEAT_RETENTION_DAYS"),
    table="reliability_striperepeat",
    where="received_at < %(cutoff)s",
)
STRIPE_REFUSALS = pruning(
    name="stripe_refusals",
    what="refused requests deleted",
    age=days("STRIPE_REFUSAL_RETENTION_DAYS"),
    table="reliability_striperefusal",
    where="at < %(cutoff)s",
)
SLOTS = pruning(
    name="slots",
    what="expired slots deleted",
    age=timedelta,
    table="reliability_slot",
    where="expires_at < %(cutoff)s",
)
_FIGURES = (("minute", timedelta(days=8)), ("hour", timedelta(days=400)))
ROLLUPS = tuple(
    pruning(
        name=f"{name}_{grain}s",
        what=f"{what} by the {grain} deleted",
        age=lambda age=age: age,  # type: ignore[misc]  # each rule its own
        table=table,
        where=f"grain = '{grain}' AND at < %(cutoff)s",
        order="at",
    )
    for name, what, table in (
        ("rollup", "figures of lanes", "reliability_rollup"),
        ("death_rollup", "figures of deaths", "reliability_deathrollup"),
    )
    for grain, age in _FIGURES
)
FAILURE_GROUPS = pruning(
    name="failure_groups",
    what="failure groups of which none is dead deleted",
    age=lambda: timedelta(days=400),
    table="reliability_failuregroup",
    where="dead = 0 AND last_at < %(cutoff)s",
    order="last_at",
)
# The delivery that died, its replays and n8n's reports hold the same payload; digests stay, by which repeats are known.
PURGED_PAYLOADS = Rule(
    name="purged_payloads",
    what="payloads of purged dead letters erased",
    age=timedelta,
    matching="SELECT id FROM reliability_deadletter"
    " WHERE erase_at IS NOT NULL AND erase_at <= %(cutoff)s AND status = 'purged' ORDER BY erase_at",
    act="""
WITH gone AS (
    UPDATE reliability_deadletter SET payload = '', erase_at = NULL WHERE id IN ({batch}) RETURNING id, delivery_id
), sent AS (
    UPDATE reliability_delivery d SET payload = '' FROM gone
    WHERE d.id = gone.delivery_id AND d.state IN ('delivered', 'dead', 'cancelled', 'skipped')
), again AS (
    UPDATE reliability_delivery d SET payload = '' FROM gone
    WHERE d.dead_letter_id = gone.id AND d.state IN ('delivered', 'dead', 'cancelled', 'skipped')
), said AS (
    UPDATE reliability_failurereport r SET report = '{{}}' FROM gone
    WHERE r.dead_letter_id = gone.id OR r.delivery_id = gone.delivery_id
)
SELECT id FROM gone
""",
)
_rules: dict[str, Rule] = {
    rule.name: rule
    for rule in (PURGED_PAYLOADS, STRIPE_PAYLOADS, STRIPE_REPEATS, STRIPE_REFUSALS, SLOTS, *ROLLUPS, FAILURE_GROUPS)
}


def register(*, rule: Rule) -> None:
    """Add a rule, after those that are there."""
    _rules[rule.name] = rule


def rules() -> tuple[Rule, ...]:
    return tuple(_rules.values())


def cleanup(*, now: datetime, dry_run: bool = False) -> Iterator[Done]:
    """Apply each rule in turn, and say what it came to; with `dry_run`, only count."""
    for rule in rules():
        rows = count(rule=rule, now=now) if dry_run else apply(rule=rule, now=now)
        if rows and not dry_run:
            logger.info("cleaned_up", extra={"rule": rule.name, "rows": rows})
        yield Done(rule.name, rule.what, rows)


def count(*, rule: Rule, now: datetime) -> int:
    """Return how many rows the rule is about at `now`."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({rule.matching}) AS due", _values(rule, now))  # noqa: S608  # a rule's own
        return int(cursor.fetchone()[0])


def apply(*, rule: Rule, now: datetime) -> int:
    """Apply a rule, batch by batch, until none is full; return how many rows went."""
    total = 0
    while True:
        done = batch(rule=rule, now=now)
        total += done
        if done < BATCH:
            return total


def batch(*, rule: Rule, now: datetime) -> int:
    """Apply a rule to up to `BATCH` rows, in one transaction; return how many there were."""
    statement = rule.act.format(batch=f"{rule.matching} LIMIT {BATCH} FOR UPDATE SKIP LOCKED")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, _values(rule, now))
        return int(cursor.rowcount)


def _values(rule: Rule, now: datetime) -> Mapping[str, Any]:
    cutoff = now - rule.age()
    return {"cutoff": cutoff, "now": now, "id": ids.before(cutoff)}
