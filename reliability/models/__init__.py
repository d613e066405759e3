"""What the database holds."""

from .access import ApiKey, AuditEntry, KeyScope
from .breaker import Breaker, BreakerState, BreakerTransition, Scope
from .dead_letter import DeadLetter, DeadLetterSource, DeadLetterStatus
from .delivery import FINAL, IN_FLIGHT, Attempt, AttemptResult, Delivery, DeliveryState, Source, digest_of
from .operation import Operation, OperationKind, OperationState
from .policy import Completion, LanePolicy, OnUnknownOutcome
from .workflow import DEFAULT_TENANT, Lane, Workflow

__all__ = [
    "DEFAULT_TENANT",
    "FINAL",
    "IN_FLIGHT",
    "ApiKey",
    "Attempt",
    "AttemptResult",
    "AuditEntry",
    "Breaker",
    "BreakerState",
    "BreakerTransition",
    "Completion",
    "DeadLetter",
    "DeadLetterSource",
    "DeadLetterStatus",
    "Delivery",
    "DeliveryState",
    "KeyScope",
    "Lane",
    "LanePolicy",
    "OnUnknownOutcome",
    "Operation",
    "OperationKind",
    "OperationState",
    "Scope",
    "Source",
    "Workflow",
    "digest_of",
]
