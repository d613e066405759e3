"""Records failures that no reply reported: an expired lease, or an end that was reported or never came."""

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
from .attempt_log import ExpiredLease
from .rollups import Tally
from .settle import RECORD, FinalFailure, describe, finish, rows_json, rules_of

# The largest value of the column (int4, 24.8 days): a lease may have expired long before a worker ran again.
LONGEST_MS = 2**31 - 1

# The attempt's number is the fence: an attempt that was settled meanwhile, or sent again, is not touched.
RECORD_FAILURE = """
UPDATE reliability_delivery SET state = %s, due_at = coalesce(%s, due_at), finished_at = %s,
    retries_used = retries_used + %s, last_error = %s, lease_token = NULL, lease_until = NULL
WHERE id = %s AND attempt_count = %s AND state = ANY(%s)
"""


def settle_expired(*, lane_id: int, leases: Sequence[ExpiredLease], policy: LanePolicy, now: datetime) -> None:
    """Settle deliveries with expired leases, under their lane's lock; each gets an attempt on record."""
    attempts, failures, dead, retries = 0, 0, 0, 0
    results: Counter[str] = Counter()
    for lease in leases:
        result = AttemptResult.CALLBACK_TIMEOUT if lease.awaiting else AttemptResult.INTERRUPTED
        verdict = settle(
            classified=_classify(lease),
            rules=rules_of(policy),
            attempt=lease.number,
            retries_used=lease.retries_used,
            jitter=random.random(),  # noqa: S311  # jitter, not a secret
        )
        settled = record_failure(
            delivery_id=lease.delivery_id,
            number=lease.number,
            verdict=verdict,
            result=result,
            started_at=lease.sent_at,
            now=now,
        )
        failures += settled
        retries += settled and lease.number > 1
        results[str(result)] += settled
        attempts += settled and not lease.awaiting  # one that awaits a report was counted with its reply
        dead += settled and verdict.step is Step.DEAD_LETTER
        if settled:
            attempt_log.log_expired_lease(lane_id=lane_id, lease=lease, result=str(result), verdict=verdict)
    tally = Tally(dead=dead, attempts=attempts, failures=failures, retries=retries, results=results)
    rollups.count(lane_id=lane_id, tally=tally, now=now)


def _classify(lease: ExpiredLease) -> Classified:
    if lease.awaiting:
        message = "The workflow did not report its end in time."
        return Classified(Outcome.UNKNOWN, ErrorCode.CALLBACK_TIMEOUT, message, reached=True)
    message = "The worker stopped while it was sending."
    return Classified(Outcome.UNKNOWN, ErrorCode.WORKER_LOST, message, reached=True)


def record_failure(  # noqa: PLR0913  # one failure, with all that its record holds
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
    """Record a failure without a reply on a delivery in one of `states`; return whether it was in one.

    The caller counts it (`rollups`). `execution` is the id and URL of n8n's execution.
    """
    retry = verdict.step is Step.RETRY
    error = describe(verdict.code, verdict.message)
    with connection.cursor() as cursor:
        cursor.execute(
            RECORD_FAILURE,
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
        death = FinalFailure(delivery_id, verdict.code, verdict.message, *execution)
        finish(delivered=[], dead=[death], now=now)
    return True
