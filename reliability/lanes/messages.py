"""What passes between the stages: a claimed delivery on its way out, and its attempt on its way back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from reliability.models import LanePolicy
from reliability.policies.classification import Classified, Reply
from reliability.transport import exchange


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery under this worker's lease, with all that its attempt needs.

    It was claimed at `claimed_at` by the database's clock, when `exchange.now()` was `claimed_monotonic`. Nothing of it
    is sent after `send_by`, a moment of `exchange.now()` too: an exchange that begins then is over, and settled, before
    the lease ends. `refused_at` is when a gateway first refused the delivery.
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
        """Return the database's time, as far as this machine can tell: its own clock may be off or be set."""
        return self.claimed_at + timedelta(seconds=exchange.now() - self.claimed_monotonic)


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt that has come back. `duration` in seconds."""

    claim: Claim
    classified: Classified
    reply: Reply | None
    started_at: datetime
    duration: float
