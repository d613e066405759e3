"""Records what an attempt means for its delivery: delivered, retry later, or dead letter."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from config.database.prepared import prepared_cursor
from reliability.core.db_pipeline import pipelined
from reliability.lanes.messages import Sent
from reliability.models import DeliveryState, LanePolicy, error_fields
from reliability.models.ids import uuid7
from reliability.policies import backoff
from reliability.policies.classification import Outcome
from reliability.policies.settlement import Refusals, Rules, Settlement, Step, settle

from . import attempt_log, rollups
from .rollups import Tally

# Characters of a successful reply's body that are stored; of a failed one, all that was read.
SUCCESS_BODY_LIMIT = 2048
LOST_LEASE = "lease_lost"

# The fencing token (`lease_token`) decides whether the attempt may still settle its delivery. The rows are found by
# primary key. PostgreSQL expects few rows to be `sending` and would rather use the index of states, which keeps an
# entry for each row that was claimed since the last VACUUM. So the state is compared in a way that no index supports
# (IS TRUE).
SETTLE = """
WITH v AS (
    SELECT * FROM json_to_recordset(%s) AS v(id uuid, token uuid, state text, due_at timestamptz,
        finished_at timestamptz, retry int, error text, lease_until timestamptz, refused_at timestamptz)
)
UPDATE reliability_delivery AS d SET
    state = v.state, due_at = coalesce(v.due_at, d.due_at), finished_at = v.finished_at,
    retries_used = d.retries_used + v.retry, last_error = v.error, lease_token = NULL, lease_until = v.lease_until,
    refused_at = coalesce(d.refused_at, v.refused_at)
FROM v
WHERE d.id = ANY(ARRAY(SELECT id FROM v)) AND d.id = v.id AND d.lease_token = v.token
    AND (d.state = 'sending') IS TRUE
RETURNING d.id, d.reported IS NOT NULL
"""
# ON CONFLICT: one row per attempt and result (`attempt_once_per_result`), also if a slow worker settles it late.
RECORD = """
INSERT INTO reliability_attempt (delivery_id, number, result, code, error, status_code, started_at, duration_ms,
    response_headers, response_body, probe, worker)
SELECT * FROM json_to_recordset(%s) AS v(delivery_id uuid, number int, result text, code text, error text,
    status_code int, started_at timestamptz, duration_ms int, response_headers jsonb, response_body text, probe bool,
    worker text)
ON CONFLICT DO NOTHING
"""

# What n8n itself reported about the last attempt is more exact than its reply.
REPORTED = """
SELECT d.id, r.error_message, r.execution_id, r.execution_url
FROM unnest(%(ids)s::uuid[], %(codes)s::text[], %(executions)s::text[]) AS v(id, code, execution_id)
JOIN reliability_delivery d ON d.id = v.id
JOIN LATERAL (
    SELECT error_message, execution_id, execution_url FROM reliability_failurereport
    WHERE delivery_id = d.id AND v.execution_id = '' AND v.code <> 'expired'
        AND (attempt = d.attempt_count OR (attempt IS NULL AND reported_at >= d.sent_at))
    ORDER BY id DESC LIMIT 1
) AS r ON true
"""
FAILED = """
unnest(%(ids)s::uuid[], %(letters)s::uuid[], %(codes)s::text[], %(messages)s::text[], %(reasons)s::text[],
    %(prints)s::text[], %(executions)s::text[], %(urls)s::text[])
    AS v(id, letter, code, message, reason, fingerprint, execution_id, execution_url)
JOIN reliability_delivery d ON d.id = v.id
"""
# The conflict is a delivery that had died before and was recovered by a late success: its dead letter is reopened.
INSERT_DEAD_LETTERS = f"""
INSERT INTO reliability_deadletter (id, lane_id, delivery_id, source, status, payload, error_code, error_message,
    reason, fingerprint, retry_count, execution_id, execution_url, created_at, died_at, expires_at)
SELECT v.letter, d.lane_id, d.id, 'delivery', 'dead', d.payload, v.code, v.message, v.reason, v.fingerprint,
    greatest(d.attempt_count - 1, 0), v.execution_id, v.execution_url, %(now)s, %(now)s, %(expiry)s
FROM {FAILED}
WHERE d.dead_letter_id IS NULL
ON CONFLICT (delivery_id) WHERE delivery_id IS NOT NULL DO UPDATE SET
    status = 'dead', error_code = excluded.error_code, error_message = excluded.error_message,
    reason = excluded.reason, fingerprint = excluded.fingerprint,
    execution_id = excluded.execution_id, execution_url = excluded.execution_url,
    died_at = excluded.died_at, expires_at = excluded.expires_at, closed_at = NULL
WHERE reliability_deadletter.status = 'recovered'
"""  # noqa: S608  # our own text
REOPEN_DEAD_LETTERS = f"""
UPDATE reliability_deadletter AS l SET
    status = 'dead', error_code = v.code, error_message = v.message, reason = v.reason, fingerprint = v.fingerprint,
    execution_id = v.execution_id, execution_url = v.execution_url,
    died_at = %(now)s, expires_at = %(expiry)s, closed_at = NULL,
    retry_count = l.retry_count + CASE WHEN l.status = 'replaying' THEN d.attempt_count ELSE 0 END
FROM {FAILED}
WHERE l.id = d.dead_letter_id AND l.status IN ('replaying', 'recovered')
"""  # noqa: S608  # our own text
# Several dead letters are locked in the order of their ids (`core.lock_order`), which an UPDATE does not guarantee. The
# ids are an array, since a subquery within an OR could use no index.
LOCK_DEAD_LETTERS = """
SELECT 1 FROM reliability_deadletter WHERE delivery_id = ANY(%(ids)s::uuid[])
    OR id = ANY(ARRAY(SELECT dead_letter_id FROM reliability_delivery WHERE id = ANY(%(ids)s::uuid[])))
ORDER BY id FOR NO KEY UPDATE
"""
RECOVER_DEAD_LETTERS = """
UPDATE reliability_deadletter AS l SET status = 'recovered', closed_at = %s
FROM reliability_delivery d
WHERE d.id = ANY(%s::uuid[]) AND l.id = d.dead_letter_id AND l.status = 'replaying'
"""


@dataclass(frozen=True, slots=True)
class FinalFailure:
    """A delivery that failed for good, and why; with n8n's execution, if known."""

    delivery_id: UUID
    code: str
    message: str
    execution_id: str = ""
    execution_url: str = ""


def rules_of(policy: LanePolicy) -> Rules:
    return Rules(
        max_retries=policy.max_retries,
        base_delay_ms=policy.base_delay_ms,
        max_delay_ms=policy.max_delay_ms,
        jitter_factor=policy.jitter_factor,
        hold_unknown=policy.on_unknown_outcome == "hold",
        awaits_callback=policy.completion == "callback",
    )


def decide(sent: Sent, *, now: datetime, passed_at: datetime | None = None) -> Settlement:
    """Return what an attempt means under its lane's policy; `passed_at` as in `Refusals`."""
    header = sent.reply.headers.get("retry-after") if sent.reply else None
    return settle(
        classified=sent.classified,
        rules=rules_of(sent.claim.policy),
        attempt=sent.claim.number,
        retries_used=sent.claim.retries_used,
        jitter=random.random(),  # noqa: S311  # jitter, not a secret
        retry_after=backoff.parse_retry_after(header, now=now),
        refusals=Refusals(sent.claim.refused_at, passed_at),
    )


def settle_sent(
    *, batch: Sequence[Sent], now: datetime, worker: str = "", passed_at: datetime | None = None
) -> list[UUID]:
    """Record the results of a lane's attempts, under its lock. An attempt that lost its lease changes nothing.

    `passed_at` as in `Refusals`. Returns the ids of deliveries whose execution n8n reported before the reply was
    settled.
    """
    decided = [(sent, decide(sent, now=now, passed_at=passed_at)) for sent in batch]
    with prepared_cursor() as cursor:
        cursor.execute(SETTLE, [rows_json(_new_values(sent, verdict, now) for sent, verdict in decided)])
        won: dict[UUID, bool] = dict(cursor.fetchall())
    kept = [(sent, verdict) for sent, verdict in decided if sent.claim.delivery_id in won]
    if kept:
        with pipelined(), prepared_cursor() as cursor:
            cursor.execute(RECORD, [rows_json(_attempt_row(sent, worker) for sent, _ in kept)])
            rollups.count(lane_id=kept[0][0].claim.lane_id, tally=_tally(kept, now), now=now)
    finish(
        delivered=[
            sent.claim.delivery_id for sent, verdict in kept if verdict.step is Step.DELIVERED and sent.claim.is_replay
        ],
        dead=[
            FinalFailure(sent.claim.delivery_id, verdict.code, verdict.message)
            for sent, verdict in kept
            if verdict.step is Step.DEAD_LETTER
        ],
        now=now,
    )
    for sent, verdict in decided:
        then = verdict.step if sent.claim.delivery_id in won else LOST_LEASE
        attempt_log.log_attempt(sent=sent, then=str(then), worker=worker)
    return [delivery_id for delivery_id, reported in won.items() if reported]


def finish(*, delivered: Sequence[UUID], dead: Sequence[FinalFailure], now: datetime) -> None:
    """Update dead letters for deliveries that were just set to `delivered` (replays only) or `dead`."""
    if not delivered and not dead:
        return
    with connection.cursor() as cursor:
        cursor.execute(LOCK_DEAD_LETTERS, {"ids": [*delivered, *(one.delivery_id for one in dead)]})
        if delivered:
            cursor.execute(RECOVER_DEAD_LETTERS, [now, list(delivered)])
        if dead:
            values = _dead_letter_values(_with_reports(dead), now)
            # A replay's delivery has the dead letter that it replays; any other gets a new one.
            cursor.execute(REOPEN_DEAD_LETTERS, values)
            cursor.execute(INSERT_DEAD_LETTERS, values)


def _with_reports(dead: Sequence[FinalFailure]) -> list[FinalFailure]:
    """Return the failures with what n8n reported about them, where it did."""
    values: dict[str, Any] = {
        "ids": [one.delivery_id for one in dead],
        "codes": [one.code for one in dead],
        "executions": [one.execution_id for one in dead],
    }
    with connection.cursor() as cursor:
        cursor.execute(REPORTED, values)
        said = {row[0]: row[1:] for row in cursor.fetchall()}
    return [
        FinalFailure(one.delivery_id, one.code, *said[one.delivery_id]) if one.delivery_id in said else one
        for one in dead
    ]


def _dead_letter_values(dead: Sequence[FinalFailure], now: datetime) -> dict[str, Any]:
    errors = [error_fields(code=one.code, message=one.message) for one in dead]
    return {
        "ids": [one.delivery_id for one in dead],
        "letters": [uuid7() for _ in dead],
        "codes": [one["error_code"] for one in errors],
        "messages": [one["error_message"] for one in errors],
        "reasons": [one["reason"] for one in errors],
        "prints": [one["fingerprint"] for one in errors],
        "executions": [one.execution_id for one in dead],
        "urls": [one.execution_url for one in dead],
        "now": now,
        "expiry": now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS),
    }


def _tally(kept: "Sequence[tuple[Sent, Settlement]]", now: datetime) -> Tally:
    delivered = [sent for sent, verdict in kept if verdict.step is Step.DELIVERED]
    # One that awaits its report is counted later, when its result is known.
    retries = [sent for sent, verdict in kept if sent.claim.number > 1 and verdict.step is not Step.AWAIT_CALLBACK]
    return Tally(
        delivered=len(delivered),
        dead=sum(verdict.step is Step.DEAD_LETTER for _, verdict in kept),
        attempts=len(kept),
        failures=sum(sent.classified.outcome is not Outcome.DELIVERED for sent, _ in kept),
        retries=len(retries),
        retries_delivered=sum(sent.classified.outcome is Outcome.DELIVERED for sent in retries),
        latencies=[rollups.latency(since=sent.claim.created_at, now=now) for sent in delivered],
        durations=[sent.duration * 1000 for sent, _ in kept],
        results=Counter(str(sent.classified.outcome) for sent, _ in kept),
    )


def rows_json(values: "Iterable[dict[str, object]]") -> str:
    """Return rows as one JSON text for `json_to_recordset`."""
    # One parameter to quote: with arrays, each value of each row would be quoted by itself.
    return json.dumps(list(values), default=str)


def _new_values(sent: Sent, verdict: Settlement, now: datetime) -> dict[str, object]:
    state = {
        Step.DELIVERED: DeliveryState.DELIVERED,
        Step.AWAIT_CALLBACK: DeliveryState.AWAITING_CALLBACK,
        Step.RETRY: DeliveryState.PENDING,
        Step.DEAD_LETTER: DeliveryState.DEAD,
    }[verdict.step]
    final = verdict.step in (Step.DELIVERED, Step.DEAD_LETTER)
    deadline = now + timedelta(milliseconds=sent.claim.policy.callback_timeout_ms)
    return {
        "id": sent.claim.delivery_id,
        "token": sent.claim.token,
        "state": str(state),
        "due_at": now + verdict.wait if verdict.step is Step.RETRY else None,
        "finished_at": now if final else None,
        "retry": int(verdict.spends_retry),
        "error": describe(verdict.code, verdict.message),
        "lease_until": deadline if verdict.step is Step.AWAIT_CALLBACK else None,
        "refused_at": now if verdict.refused else None,
    }


def describe(code: str, message: str) -> str:
    """Return an error as one line: `code: message`."""
    return f"{code}: {message}" if code and message else code or message


def _attempt_row(sent: Sent, worker: str) -> dict[str, object]:
    claim, said, reply = sent.claim, sent.classified, sent.reply
    body = reply.body if reply else ""
    return {
        "delivery_id": claim.delivery_id,
        "number": claim.number,
        "result": str(said.outcome),
        "code": said.code,
        "error": said.message,
        "status_code": reply.status if reply else None,
        "started_at": sent.started_at,
        "duration_ms": round(sent.duration * 1000),
        "response_headers": dict(reply.headers) if reply else {},
        "response_body": body if said.code else body[:SUCCESS_BODY_LIMIT],
        "probe": claim.lane_probe or claim.instance_probe,
        "worker": worker,
    }
