"""The values passed between the stages: a claimed delivery to send, and its attempt with the result."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from reliability.models import LanePolicy
from reliability.policies.classification import Classified, Reply
from reliability.transport import exchange


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery under this worker's lease, with everything that its attempt needs.

    It was claimed at `claimed_at` by the database's clock, when `exchange.now()` was `claimed_monotonic`. Nothing of it
    is sent after `send_by`, also a moment of `exchange.now()`: an exchange that begins then ends, and is settled,
    before the lease ends. `token` is the fencing token. `refused_at` is when a gateway first refused the delivery.
    """

    delivery_id: UUID
    lane_id: int
    workflow: str
    tenant: str
    number: int
    retries_used: int
    token: UUID
    payload: str
    idempotency_key: str
    url: str
    authentication: dict[str, str]
    signing_secret: str
    stale: bool
    is_replay: bool
    created_at: datetime
    refused_at: datetime | None
    request_id: str
    traceparent: str
    policy: LanePolicy
    lane_probe: bool
    instance_probe: bool
    claimed_at: datetime
    claimed_monotonic: float
    send_by: float

    def now(self) -> datetime:
        """Return the database's time, estimated without asking it."""
        # Not this machine's wall clock, which may be wrong or be changed.
        return self.claimed_at + timedelta(seconds=exchange.now() - self.claimed_monotonic)


@dataclass(frozen=True, slots=True)
class Sent:
    """A finished attempt: its claim, its classification, and the reply, if one came. `duration` in seconds."""

    claim: Claim
    classified: Classified
    reply: Reply | None
    started_at: datetime
    duration: float
