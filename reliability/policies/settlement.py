"""What becomes of a delivery after an attempt: the classification, held against the lane's policy."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import backoff
from .breaker import Report, Signal
from .classification import Classified, Evidence, Outcome
from .error_codes import ErrorCode


class Step(enum.StrEnum):
    """Where a delivery goes from an attempt."""

    DELIVERED = "delivered"
    AWAIT_CALLBACK = "await_callback"
    RETRY = "retry"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class Rules:
    """The part of a lane's policy that settlement needs; delays in milliseconds."""

    max_retries: int
    base_delay_ms: int
    max_delay_ms: int
    jitter_factor: float
    hold_unknown: bool
    awaits_callback: bool


@dataclass(frozen=True, slots=True)
class Refusals:
    """What is known where a gateway refuses a request.

    `refused_at` is when it first refused this delivery, `passed_at` when the lane's last attempt began that got through
    after a refusal.
    """

    refused_at: datetime | None = None
    passed_at: datetime | None = None

    @property
    def is_first(self) -> bool:
        return self.refused_at is None

    @property
    def is_particular(self) -> bool:
        """Whether others got through since this delivery was first refused: then it is about this one."""
        return self.refused_at is not None and self.passed_at is not None and self.passed_at > self.refused_at


NO_REFUSALS = Refusals()


@dataclass(frozen=True, slots=True)
class Settlement:
    """The verdict. `wait` and `spends_retry` are about a retry only; `code` and `message` say what failed.

    With `refused`, the delivery remembers when a gateway first refused it.
    """

    step: Step
    wait: timedelta = timedelta(0)
    spends_retry: bool = False
    code: str = ""
    message: str = ""
    refused: bool = False


def settle(
    *,
    classified: Classified,
    rules: Rules,
    attempt: int,
    retries_used: int,
    jitter: float,
    retry_after: timedelta | None = None,
    refusals: Refusals = NO_REFUSALS,
) -> Settlement:
    """Decide on attempt number `attempt` (from 1); `jitter` is a sample in [0, 1).

    An attempt that the payload is not to blame for spends no retry: the breakers keep such attempts few, and the
    delivery waits for what is broken to be put right.
    """
    outcome = classified.outcome
    if outcome is Outcome.DELIVERED:
        return Settlement(Step.AWAIT_CALLBACK if rules.awaits_callback else Step.DELIVERED)
    if outcome is Outcome.REJECTED:
        return _bury(classified, classified.code)
    if outcome is Outcome.REFUSED and refusals.is_particular:
        message = f"{classified.message.rstrip('.')}. Other deliveries got through: a gateway refuses this one."
        return Settlement(Step.BURY, code=classified.code, message=message)
    if outcome is Outcome.UNKNOWN and rules.hold_unknown:
        return _bury(classified, ErrorCode.OUTCOME_UNKNOWN)
    free = outcome in _FREE
    if not free and retries_used >= rules.max_retries:
        return _bury(classified, classified.code)
    wait = backoff.delay(
        k=attempt - 1 if free else retries_used,
        base_delay_ms=rules.base_delay_ms,
        max_delay_ms=rules.max_delay_ms,
        jitter_factor=rules.jitter_factor,
        jitter=jitter,
    )
    wait = backoff.honour_retry_after(delay=wait, retry_after=retry_after, max_delay_ms=rules.max_delay_ms)
    refused = outcome is Outcome.REFUSED
    return Settlement(Step.RETRY, wait, not free, classified.code, classified.message, refused=refused)


def _bury(classified: Classified, code: str) -> Settlement:
    return Settlement(Step.BURY, code=code, message=classified.message)


_FREE = frozenset({Outcome.INSTANCE_DOWN, Outcome.MISCONFIGURED, Outcome.MISCONFIGURED_LOCALLY, Outcome.REFUSED})
_LANE = {
    Outcome.DELIVERED: Signal.SUCCESS,
    Outcome.TRANSIENT: Signal.FAILURE,
    Outcome.UNKNOWN: Signal.FAILURE,
    Outcome.MISCONFIGURED: Signal.TRIP,
}
_INSTANCE = {
    Evidence.PRESENT: Signal.SUCCESS,
    Evidence.ABSENT: Signal.FAILURE,
    Evidence.SUSPECT: Signal.SUSPICION,
}


def lane_report(
    classified: Classified, *, probe: bool, began: datetime | None = None, refusals: Refusals = NO_REFUSALS
) -> Report | None:
    """Return what an attempt, claimed at `began`, tells the lane's breaker; `None`: it says nothing about the lane."""
    again = not refusals.is_first
    return _report(_lane_signal(classified, refusals), classified, probe=probe, began=began, again=again)


def instance_report(classified: Classified, *, probe: bool, lane: int = 0) -> Report | None:
    """Return what an attempt of `lane` tells the instance's breaker; `None`: it says nothing about the instance."""
    return _report(_INSTANCE.get(classified.evidence), classified, probe=probe, lane=lane)


def _lane_signal(classified: Classified, refusals: Refusals) -> Signal | None:
    match classified.outcome:
        case Outcome.INSTANCE_DOWN:
            # What this lane alone may suffer from is held by its own breaker; the rest is the instance's alone.
            return Signal.FAILURE if classified.evidence is Evidence.SUSPECT else None
        case Outcome.REFUSED:
            return None if refusals.is_particular else Signal.REFUSAL
        case outcome:
            return _LANE.get(outcome)


def _report(
    signal: Signal | None,
    classified: Classified,
    *,
    probe: bool,
    lane: int = 0,
    began: datetime | None = None,
    again: bool = False,
) -> Report | None:
    if signal is None:
        return None
    if signal is Signal.SUCCESS:
        return Report(signal, probe=probe, lane=lane, began=began)
    reason = f"{classified.code}: {classified.message}"
    early = classified.outcome is Outcome.INSTANCE_DOWN
    return Report(signal, probe=probe, reason=reason, lane=lane, began=began, early=early, again=again)
