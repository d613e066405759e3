"""The database tables: fields, constraints, indexes, querysets and changes of one row.

`workflow` (workflows and lanes), `policy` (what governs a lane), `breaker`, `slot` and `flag` are the configuration and
the state of lanes. `delivery`, `dead_letter`, `execution`, `idempotency` and `stripe` are the work; `operation` are
bulk operations over it. `rollup` and `total` count it; `alert`, `archive`, `access` and `sign_in` are about running
Backstop. `fields`, `ids` and `rows` are shared parts.

Table and column names are part of the interface: backups, dashboards and SQL functions use them.
"""

from .access import ApiKey, AuditEntry, KeyScope
from .alert import Alert, AlertChannel, AlertNotice, AlertSilence, AlertState, NoticeState, ProcessSample
from .archive import Archive, ArchiveState
from .breaker import Breaker, BreakerState, BreakerTransition, Scope
from .dead_letter import DeadLetter, DeadLetterSource, DeadLetterStatus, error_fields
from .delivery import FINAL, IN_FLIGHT, Attempt, AttemptResult, Delivery, DeliveryState, Source, digest_of
from .execution import (
    Execution,
    ExecutionRetry,
    ExecutionStatus,
    FailureReport,
    ReportOrigin,
    ReportState,
    RetryState,
)
from .flag import Flag, FlagName
from .idempotency import IdempotencyKey
from .operation import Ends, Operation, OperationKind, OperationState, OperationTally
from .policy import Completion, LanePolicy, OnUnknownOutcome
from .rollup import LATENCY_EDGES, DeathRollup, FailureGroup, Grain, Rollup
from .sign_in import FailedSignIn
from .slot import Slot
from .stripe import (
    DEFAULT_ENDPOINT,
    ClaimStatus,
    EventSource,
    Ignored,
    StripeClaim,
    StripeEndpoint,
    StripeEvent,
    StripeMode,
    StripeRefusal,
    StripeRepeat,
    StripeSecret,
)
from .total import RESULTS, LaneTotal, Total, TotalName, WorkerFigure
from .workflow import DEFAULT_TENANT, Lane, Workflow

__all__ = [
    "DEFAULT_ENDPOINT",
    "DEFAULT_TENANT",
    "FINAL",
    "IN_FLIGHT",
    "LATENCY_EDGES",
    "RESULTS",
    "Alert",
    "AlertChannel",
    "AlertNotice",
    "AlertSilence",
    "AlertState",
    "ApiKey",
    "Archive",
    "ArchiveState",
    "Attempt",
    "AttemptResult",
    "AuditEntry",
    "Breaker",
    "BreakerState",
    "BreakerTransition",
    "ClaimStatus",
    "Completion",
    "DeadLetter",
    "DeadLetterSource",
    "DeadLetterStatus",
    "DeathRollup",
    "Delivery",
    "DeliveryState",
    "Ends",
    "EventSource",
    "Execution",
    "ExecutionRetry",
    "ExecutionStatus",
    "FailedSignIn",
    "FailureGroup",
    "FailureReport",
    "Flag",
    "FlagName",
    "Grain",
    "IdempotencyKey",
    "Ignored",
    "KeyScope",
    "Lane",
    "LanePolicy",
    "LaneTotal",
    "NoticeState",
    "OnUnknownOutcome",
    "Operation",
    "OperationKind",
    "OperationState",
    "OperationTally",
    "ProcessSample",
    "ReportOrigin",
    "ReportState",
    "RetryState",
    "Rollup",
    "Scope",
    "Slot",
    "Source",
    "StripeClaim",
    "StripeEndpoint",
    "StripeEvent",
    "StripeMode",
    "StripeRefusal",
    "StripeRepeat",
    "StripeSecret",
    "Total",
    "TotalName",
    "WorkerFigure",
    "Workflow",
    "digest_of",
    "error_fields",
]
