"""Writes down failures that no reply told of: a lease that ran out, an end that was reported or never came."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from reliability.models import IN_FLIGHT, AttemptResult, DeliveryState, LanePolicy
from reliability.policies.classification import Classified, Outcome
from reliability.policies.error_codes import ErrorCode
from reliability.policies.settlement import Settlement, Step, settle

from . import attempt_log, rollups
from .attempt_log import Lapse
from .rollups import Tally
from .settle import RECORD, Death, describe, finish, rows_json, rules_of

# The column's largest: what ran out while nobody looked may be older than that.
LONGEST_MS = 2**31 - 1

FAIL_IN_FLIGHT = """
UPDATE reliability_delivery SET state = %s, due_at = coalesce(%s, due_at), finished_at = %s,
    retries_used = retries_used + %s, last_error = %s, lease_token = NULL, lease_until = NULL
WHERE id = %s AND attempt_count = %s AND state = ANY(%s)
"""


def settle_lapsed(*, lane_id: int, lapses: Sequence[Lapse], policy: LanePolicy, now: datetime) -> None:
    """Take back deliveries whose lease ran out, under their lane's lock; each leaves an attempt on record."""
    attempts, failures, dead, retries = 0, 0, 0, 0
    results: Counter[str] = Counter()
    for lapse in lapses:
        result = AttemptResult.CALLBACK_TIMEOUT if lapse.awaiting else AttemptResult.INTERRUPTED
        verdict = settle(
            classified=_lapsed(lapse),
            rules=rules_of(policy),
            attempt=lapse.number,
            retries_used=lapse.retries_used,
            jitter=random.random(),  # noqa: S311  # jitter, not a secret
        )
        settled = apply(
            delivery_id=lapse.delivery_id,
            number=lapse.number,
            verdict=verdict,
            result=result,
            started_at=lapse.sent_at,
            now=now,
        )
        failures += settled
        retries += settled and lapse.number > 1
        results[str(result)] += settled
        attempts += settled and not lapse.awaiting  # of those that did answer, the attempt was counted then
        dead += settled and verdict.step is Step.BURY
        if settled:
            attempt_log.lapsed(lane_id=lane_id, lapse=lapse, result=str(result), verdict=verdict)
    tally = Tally(dead=dead, attempts=attempts, failures=failures, retries=retries, results=results)
    rollups.count(lane_id=lane_id, tally=tally, now=now)


def _lapsed(lapse: Lapse) -> Classified:
    if lapse.awaiting:
        message = "The workflow did not report its end in time."
        return Classified(Outcome.UNKNOWN, ErrorCode.CALLBACK_TIMEOUT, message, reached=True)
    message = "The worker that was sending went away."
    return Classified(Outcome.UNKNOWN, ErrorCode.WORKER_LOST, message, reached=True)


def apply(  # noqa: PLR0913  # one failure, with all that its record holds
    *,
    delivery_id: UUID,
    number: int,
    verdict: Settlement,
    result: AttemptResult,
    started_at: datetime,
    now: datetime,
    execution: tuple[str, str] = ("", ""),
    states: Sequence[str] = IN_FLIGHT,
) -> bool:
    """Apply a failure that no reply told us of to a delivery in one of `states`; return whether it was.

    The caller counts it (`rollups`). `execution` is the id and the address of n8n's execution.
    """
    retry = verdict.step is Step.RETRY
    error = describe(verdict.code, verdict.message)
    with connection.cursor() as cursor:
        cursor.execute(
            FAIL_IN_FLIGHT,
            [
                DeliveryState.PENDING if retry else DeliveryState.DEAD,
                now + verdict.wait if retry else None,
                None if retry else now,
                int(verdict.spends_retry),
                error,
                delivery_id,
                number,
                [str(state) for state in states],
            ],
        )
        if cursor.rowcount != 1:
            return False
        row = {
            "delivery_id": delivery_id,
            "number": number,
            "result": str(result),
            "code": verdict.code,
            "error": verdict.message,
            "started_at": started_at,
            "duration_ms": min(LONGEST_MS, max(0, round((now - started_at).total_seconds() * 1000))),
            "response_headers": {},
            "response_body": "",
            "probe": False,
            "worker": "",
        }
        cursor.execute(RECORD, [rows_json([row])])
    if not retry:
        death = Death(delivery_id, verdict.code, verdict.message, *execution)
        finish(delivered=[], dead=[death], now=now)
    return True
