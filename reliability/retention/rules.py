"""The retention rules. Rows are deleted before the rows they refer to, and nothing that an open dead letter needs.

A dead letter with status `dead` or `replaying` needs its delivery, its replays and their attempts, n8n's reports and
execution retries: the console shows them, and a replay uses the delivery's idempotency key. They are kept as long as it
is open.
"""

# ruff: noqa: S608  # statements are put together from our own words

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from reliability import queue
from reliability.dead_letters import archive

from . import runner
from .runner import BatchResult, CleanupRule, Rule, days, delete_rule

FINAL = "('delivered', 'dead', 'cancelled', 'skipped')"
# The delivery is neither the failed delivery of an open dead letter, nor a replay of one.
_NO_OPEN_DEAD_LETTER = (
    "NOT EXISTS (SELECT 1 FROM reliability_deadletter l"
    " WHERE l.delivery_id = {delivery} AND l.status IN ('dead', 'replaying'))"
    " AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l"
    " WHERE l.id = {letter} AND l.status IN ('dead', 'replaying'))"
)

# The failed delivery, its replays and n8n's reports hold the same payload. Digests stay, so that a repeat of the key
# with another payload is still refused.
PURGED_PAYLOADS = Rule(
    name="purged_payloads",
    what="payloads of purged dead letters erased",
    age=timedelta,
    table="reliability_deadletter",
    where="t.erase_at IS NOT NULL AND t.erase_at <= %(cutoff)s AND t.status = 'purged'",
    order="erase_at",
    act=(
        (
            "UPDATE reliability_failurereport r SET report = '{}' FROM reliability_deadletter l"
            " WHERE l.id = ANY(%(ids)s) AND (r.dead_letter_id = l.id OR r.delivery_id = l.delivery_id)"
        ),
        (
            "UPDATE reliability_delivery d SET payload = '' FROM reliability_deadletter l WHERE l.id = ANY(%(ids)s)"
            f" AND d.state IN {FINAL} AND (d.id = l.delivery_id OR d.dead_letter_id = l.id)"
        ),
        "UPDATE reliability_deadletter SET payload = '', erase_at = NULL WHERE id = ANY(%(ids)s)",
    ),
)
STRIPE_PAYLOADS = Rule(
    name="stripe_payloads",
    what="payloads of Stripe events scrubbed",
    age=days("STRIPE_PAYLOAD_RETENTION_DAYS"),
    table="reliability_stripeevent",
    where="t.scrubbed_at IS NULL AND t.id < %(id)s AND t.received_at < %(cutoff)s",
    act=("UPDATE reliability_stripeevent SET payload = '', scrubbed_at = %(now)s WHERE id = ANY(%(ids)s)",),
)
STRIPE_REPEATS = delete_rule(
    name="stripe_repeats",
    what="repeats of Stripe events deleted",
    age=days("STRIPE_REPEAT_RETENTION_DAYS"),
    table="reliability_striperepeat",
    where="t.id < %(id)s AND t.received_at < %(cutoff)s",
    clock="received_at",
)
STRIPE_REFUSALS = delete_rule(
    name="stripe_refusals",
    what="refused requests deleted",
    age=days("STRIPE_REFUSAL_RETENTION_DAYS"),
    table="reliability_striperefusal",
    where="t.id < %(id)s AND t.at < %(cutoff)s",
    clock="at",
)
# An event that Stripe sends again after its row was deleted takes effect again. So by default they are kept forever.
STRIPE_EVENTS = delete_rule(
    name="stripe_events",
    what="Stripe events deleted from the ledger",
    age=days("STRIPE_EVENT_RETENTION_DAYS"),
    table="reliability_stripeevent",
    where="t.id < %(id)s AND t.received_at < %(cutoff)s",
    first=("DELETE FROM reliability_striperepeat WHERE event_id = ANY(%(ids)s)",),
)
STRIPE_CLAIMS = delete_rule(
    name="stripe_claims",
    what="claims of Stripe events deleted",
    age=days("STRIPE_CLAIM_RETENTION_DAYS"),
    table="reliability_stripeclaim",
    where="t.id < %(id)s AND t.lease_until < %(cutoff)s AND coalesce(t.finished_at, t.created_at) < %(cutoff)s",
)
SLOTS = delete_rule(
    name="slots",
    what="expired slots deleted",
    age=timedelta,
    table="reliability_slot",
    where="t.expires_at < %(cutoff)s",
)
EXECUTIONS = delete_rule(
    name="executions",
    what="records of n8n executions deleted",
    age=days("EXECUTION_RETENTION_DAYS"),
    table="reliability_execution",
    # A dead letter of source `n8n` refers to the execution by its id. `<> ''` is the condition of the partial index.
    where="t.id < %(id)s AND t.reported_at < %(cutoff)s AND NOT EXISTS (SELECT 1 FROM reliability_delivery d"
    f" WHERE d.id = t.delivery_id AND (d.state NOT IN {FINAL} OR NOT ("
    + _NO_OPEN_DEAD_LETTER.format(delivery="d.id", letter="d.dead_letter_id")
    + "))) AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l WHERE l.execution_id = t.execution_id"
    " AND l.execution_id <> '' AND l.status IN ('dead', 'replaying'))",
)
FAILURE_REPORTS = delete_rule(
    name="failure_reports",
    what="n8n's reports of failures deleted",
    age=days("FAILURE_REPORT_RETENTION_DAYS"),
    table="reliability_failurereport",
    where="t.id < %(id)s AND t.reported_at < %(cutoff)s AND t.state <> 'looking_up' AND "
    + _NO_OPEN_DEAD_LETTER.format(delivery="t.delivery_id", letter="t.dead_letter_id"),
)
EXECUTION_RETRIES = delete_rule(
    name="execution_retries",
    what="execution retries deleted",
    age=days("EXECUTION_RETRY_RETENTION_DAYS"),
    table="reliability_executionretry",
    where="t.id < %(id)s AND t.state IN ('succeeded', 'failed') AND t.finished_at < %(cutoff)s"
    " AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l"
    " WHERE l.id = t.dead_letter_id AND l.status IN ('dead', 'replaying'))",
)
# Their audit entries stay; for archived ones, the archive's row and file, too.
CLOSED_LETTERS = tuple(
    delete_rule(
        name=f"letters_{status}",
        what=f"{status} dead letters deleted",
        age=days("DEAD_LETTER_RETENTION_DAYS"),
        table="reliability_deadletter",
        where=f"t.status = '{status}' AND t.id < %(id)s AND t.closed_at < %(cutoff)s AND t.erase_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM reliability_delivery d"
        f" WHERE d.dead_letter_id = t.id AND d.state NOT IN {FINAL})"
        " AND NOT EXISTS (SELECT 1 FROM reliability_executionretry r"
        " WHERE r.dead_letter_id = t.id AND r.state IN ('pending', 'asked'))",
        first=(
            "UPDATE reliability_delivery SET dead_letter_id = NULL WHERE dead_letter_id = ANY(%(ids)s)",
            "UPDATE reliability_failurereport SET dead_letter_id = NULL WHERE dead_letter_id = ANY(%(ids)s)",
            "DELETE FROM reliability_executionretry WHERE dead_letter_id = ANY(%(ids)s)",
        ),
    )
    for status in ("recovered", "purged", "archived")
)
ATTEMPTS = delete_rule(
    name="attempts",
    what="attempts deleted",
    age=days("ATTEMPT_RETENTION_DAYS"),
    table="reliability_attempt",
    where="t.id < %(id)s AND t.started_at < %(cutoff)s AND NOT EXISTS (SELECT 1 FROM reliability_delivery d"
    f" WHERE d.id = t.delivery_id AND (d.state NOT IN {FINAL} OR NOT ("
    + _NO_OPEN_DEAD_LETTER.format(delivery="d.id", letter="d.dead_letter_id")
    + ")))",
    clock="started_at",
)
# Deleting a delivery frees its idempotency key. Lanes with `skip_unchanged` compare a new payload with their newest
# delivery, so that one is kept. `waits_for` is the delivery of a cron run that another one waits for.
DELIVERIES = delete_rule(
    name="deliveries",
    what="deliveries deleted, with their attempts",
    age=days("DELIVERY_RETENTION_DAYS"),
    table="reliability_delivery",
    where=f"t.id < %(id)s AND t.state IN {FINAL} AND t.finished_at < %(cutoff)s"
    " AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l WHERE l.delivery_id = t.id)"
    " AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l"
    " WHERE l.id = t.dead_letter_id AND l.status IN ('dead', 'replaying'))"
    f" AND NOT EXISTS (SELECT 1 FROM reliability_delivery r WHERE r.replay_of_id = t.id AND r.state NOT IN {FINAL})"
    " AND NOT EXISTS (SELECT 1 FROM reliability_delivery h WHERE h.waits_for = t.id)"
    " AND (t.state <> 'delivered' OR t.lane_id NOT IN (SELECT l.id FROM reliability_lane l"
    " JOIN reliability_workflow w ON w.id = l.workflow_id WHERE coalesce(l.skip_unchanged, w.skip_unchanged, false))"
    " OR EXISTS (SELECT 1 FROM reliability_delivery n WHERE n.lane_id = t.lane_id AND n.id > t.id"
    " AND n.state NOT IN ('dead', 'cancelled', 'skipped')))",
    first=(
        "DELETE FROM reliability_attempt WHERE delivery_id = ANY(%(ids)s)",
        "UPDATE reliability_execution SET delivery_id = NULL WHERE delivery_id = ANY(%(ids)s)",
        "UPDATE reliability_failurereport SET delivery_id = NULL WHERE delivery_id = ANY(%(ids)s)",
        "UPDATE reliability_delivery SET replay_of_id = NULL WHERE replay_of_id = ANY(%(ids)s)",
    ),
)
OPERATIONS = delete_rule(
    name="operations",
    what="bulk operations deleted",
    age=days("OPERATION_RETENTION_DAYS"),
    table="reliability_operation",
    where="t.id < %(id)s AND t.state IN ('done', 'cancelled', 'stopped') AND t.finished_at < %(cutoff)s"
    " AND NOT EXISTS (SELECT 1 FROM reliability_delivery d WHERE d.operation_id = t.id)"
    " AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l WHERE l.purged_by_id = t.id)",
    first=(
        "UPDATE reliability_executionretry SET operation_id = NULL WHERE operation_id = ANY(%(ids)s)",
        "DELETE FROM reliability_operationtally WHERE operation_id = ANY(%(ids)s)",
    ),
)
# A key is kept as long as any row that its request created.
IDEMPOTENCY_KEYS = delete_rule(
    name="idempotency_keys",
    what="idempotency keys of whole requests deleted",
    age=days("DELIVERY_RETENTION_DAYS"),
    table="reliability_idempotencykey",
    where="t.id < %(id)s AND t.created_at < %(cutoff)s"
    " AND NOT EXISTS (SELECT 1 FROM reliability_delivery d WHERE d.id = ANY(t.row_ids))"
    " AND NOT EXISTS (SELECT 1 FROM reliability_deadletter l WHERE l.id = ANY(t.row_ids))"
    " AND NOT EXISTS (SELECT 1 FROM reliability_failurereport r WHERE r.id = ANY(t.row_ids))",
)
FIGURES = tuple(
    delete_rule(
        name=f"{name}_{grain}s",
        what=f"{what} by the {grain} deleted",
        age=days(f"{grain.upper()}_FIGURES_RETENTION_DAYS"),
        table=table,
        where=f"t.grain = '{grain}' AND t.at < %(cutoff)s",
        order="at",
    )
    for name, what, table in (
        ("rollup", "figures of lanes", "reliability_rollup"),
        ("death_rollup", "figures of deaths", "reliability_deathrollup"),
    )
    for grain in ("minute", "hour")
)
FAILURE_GROUPS = delete_rule(
    name="failure_groups",
    what="failure groups without dead letters deleted",
    age=days("FAILURE_GROUP_RETENTION_DAYS"),
    table="reliability_failuregroup",
    where="t.dead = 0 AND t.last_at < %(cutoff)s",
)
SESSIONS = delete_rule(
    name="sessions",
    what="expired console sessions deleted",
    age=timedelta,
    table="django_session",
    where="t.expire_date < %(cutoff)s",
    order="expire_date",
    key="session_key",
)
SIGN_INS = tuple(
    delete_rule(
        name=name,
        what=f"{what} deleted",
        age=days("SIGN_IN_RETENTION_DAYS"),
        table=table,
        where="t.attempt_time < %(cutoff)s",
    )
    for name, what, table in (
        ("failed_sign_ins", "counts of failed sign-ins", "axes_accessattempt"),
        ("sign_in_failures", "failed sign-ins", "axes_accessfailurelog"),
        ("sign_ins", "sign-ins", "axes_accesslog"),
    )
)
AUDIT = delete_rule(
    name="audit",
    what="entries of the audit log deleted",
    age=days("AUDIT_RETENTION_DAYS"),
    table="reliability_auditentry",
    where="t.at < %(cutoff)s",
    order="at",
)


@dataclass(frozen=True, slots=True)
class ArchiveExpired:
    """Archives dead letters past their TTL, one file per batch."""

    name: str = "archive"
    what: str = "expired dead letters archived"

    @property
    def age(self) -> Any:
        return lambda: timedelta(hours=settings.N8N_DLQ_TTL_HOURS)

    def count(self, *, now: datetime, limit: int) -> int:
        return archive.count_expired(now=now, limit=limit)

    def batch(self, *, now: datetime, size: int, after: Any) -> BatchResult:
        """Archive one file, whatever `size` says. There is no cursor: archived rows no longer match."""
        kept = archive.archive_expired(now=now)
        return BatchResult(kept.count, True if kept.is_more else None)


@dataclass(frozen=True, slots=True)
class EngineJobs:
    """Deletes failed and cancelled jobs of the engine. It deletes successful ones itself."""

    name: str = "engine_jobs"
    what: str = "ended jobs of the engine deleted"

    @property
    def age(self) -> Any:
        return days("ENGINE_JOB_RETENTION_DAYS")

    def count(self, *, now: datetime, limit: int) -> int:
        return queue.ended_jobs(before=now - self.age(), limit=limit)

    def batch(self, *, now: datetime, size: int, after: Any) -> BatchResult:
        gone = queue.delete_ended_jobs(before=now - self.age(), limit=size)
        return BatchResult(gone, True if gone == size else None)


def register() -> None:
    """Register the rules in the order in which they are applied."""
    stripe = (STRIPE_PAYLOADS, STRIPE_REPEATS, STRIPE_REFUSALS, STRIPE_EVENTS, STRIPE_CLAIMS)
    n8n = (EXECUTIONS, FAILURE_REPORTS, EXECUTION_RETRIES)
    letters = (*CLOSED_LETTERS, ATTEMPTS, DELIVERIES, OPERATIONS, IDEMPOTENCY_KEYS)
    rest: tuple[CleanupRule, ...] = (SLOTS, *FIGURES, FAILURE_GROUPS, EngineJobs(), SESSIONS, *SIGN_INS, AUDIT)
    rules: tuple[CleanupRule, ...] = (ArchiveExpired(), PURGED_PAYLOADS, *stripe, *n8n, *letters, *rest)
    for rule in rules:
        runner.register(rule=rule)
