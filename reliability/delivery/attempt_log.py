"""One log line with all fields for each attempt; never with what was sent or answered."""

import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from reliability.lanes.messages import Sent
from reliability.policies.settlement import Settlement

logger = logging.getLogger("reliability.attempt")


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """An expired lease: a worker died while sending, or (`awaiting`) the workflow's report never came."""

    delivery_id: UUID
    number: int
    retries_used: int
    sent_at: datetime
    awaiting: bool
    request_id: str


def log_attempt(*, sent: Sent, then: str, worker: str) -> None:
    """Log a finished attempt; `then` is what happens to its delivery."""
    claim = sent.claim
    logger.info(
        "attempt",
        extra={
            "delivery": str(claim.delivery_id),
            "request_id": claim.request_id,
            "workflow": claim.workflow,
            "tenant": claim.tenant,
            "attempt": claim.number,
            "result": str(sent.classified.outcome),
            "code": sent.classified.code,
            "status": sent.reply.status if sent.reply else None,
            "duration_ms": round(sent.duration * 1000),
            "then": then,
            "probe": claim.lane_probe or claim.instance_probe,
            "worker": worker,
        },
    )


def log_expired_lease(*, lane_id: int, lease: ExpiredLease, result: str, verdict: Settlement) -> None:
    """Log an attempt whose worker died, or whose report did not come in time."""
    logger.warning(
        "attempt",
        extra={
            "delivery": str(lease.delivery_id),
            "request_id": lease.request_id,
            "lane": lane_id,
            "attempt": lease.number,
            "result": result,
            "code": verdict.code,
            "then": str(verdict.step),
        },
    )
