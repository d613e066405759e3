"""What passes between the stages: a claimed delivery on its way out, and its attempt on its way back."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from reliability.models import LanePolicy
from reliability.policies.classification import Classified, Reply


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery under this worker's lease, with all that its attempt needs.

    Nothing of it is sent after `send_by`, a moment of `exchange.now()`: an exchange that begins then is over, and
    settled, before the lease ends. `claimed_at` is by the database's clock; `refused_at` is when a gateway first
    refused the delivery.
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
    claimed_at: datetime
    refused_at: datetime | None
    request_id: str
    traceparent: str
    policy: LanePolicy
    lane_probe: bool
    instance_probe: bool
    send_by: float


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt that has come back. `duration` in seconds."""

    claim: Claim
    classified: Classified
    reply: Reply | None
    started_at: datetime
    duration: float
