"""Decides what follows from an attempt for its delivery and for the breakers, under the lane's policy."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import backoff
from .breaker import Report, Signal
from .classification import Classified, Evidence, Outcome
from .error_codes import ErrorCode


class Step(enum.StrEnum):
    """What follows for a delivery. The values are in log lines, so they stay."""

    DELIVERED = "delivered"
    AWAIT_CALLBACK = "await_callback"
    RETRY = "retry"
    DEAD_LETTER = "bury"


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
    """What is known about refusals by a gateway.

    `refused_at` is when it first refused this delivery; `passed_at` is when the lane's last attempt began that got
    through after a refusal.
    """

    refused_at: datetime | None = None
    passed_at: datetime | None = None

    @property
    def is_first(self) -> bool:
        return self.refused_at is None

    @property
    def is_particular(self) -> bool:
        """Whether others got through since this delivery was first refused, so that only this one is refused."""
        return self.refused_at is not None and self.passed_at is not None and self.passed_at > self.refused_at


NO_REFUSALS = Refusals()


@dataclass(frozen=True, slots=True)
class Settlement:
    """The verdict. `wait` and `spends_retry` apply to a retry only; `code` and `message` say what failed.

    `refused`: store on the delivery that a gateway refused it.
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
    """Decide about attempt number `attempt` (from 1); `jitter` is a sample in [0, 1)."""
    # An attempt that failed for another reason than the payload spends no retry. Breakers keep such attempts few, and
    # the delivery waits until the cause is fixed.
    outcome = classified.outcome
    if outcome is Outcome.DELIVERED:
        return Settlement(Step.AWAIT_CALLBACK if rules.awaits_callback else Step.DELIVERED)
    if outcome is Outcome.REJECTED:
        return _as_dead_letter(classified, classified.code)
    if outcome is Outcome.REFUSED and refusals.is_particular:
        message = f"{classified.message.rstrip('.')}. Other deliveries got through: a gateway refuses this one."
        return Settlement(Step.DEAD_LETTER, code=classified.code, message=message)
    if outcome is Outcome.UNKNOWN and rules.hold_unknown:
        return _as_dead_letter(classified, ErrorCode.OUTCOME_UNKNOWN)
    spends_none = outcome in _SPENDS_NO_RETRY
    if not spends_none and retries_used >= rules.max_retries:
        return _as_dead_letter(classified, classified.code)
    wait = backoff.delay(
        k=attempt - 1 if spends_none else retries_used,
        base_delay_ms=rules.base_delay_ms,
        max_delay_ms=rules.max_delay_ms,
        jitter_factor=rules.jitter_factor,
        jitter=jitter,
    )
    wait = backoff.honour_retry_after(delay=wait, retry_after=retry_after, max_delay_ms=rules.max_delay_ms)
    refused = outcome is Outcome.REFUSED
    return Settlement(Step.RETRY, wait, not spends_none, classified.code, classified.message, refused=refused)


def _as_dead_letter(classified: Classified, code: str) -> Settlement:
    return Settlement(Step.DEAD_LETTER, code=code, message=classified.message)


_SPENDS_NO_RETRY = frozenset(
    {Outcome.INSTANCE_DOWN, Outcome.MISCONFIGURED, Outcome.MISCONFIGURED_LOCALLY, Outcome.REFUSED}
)
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
    """Return the report for the lane's breaker of an attempt claimed at `began`; `None` if it means nothing for it."""
    again = not refusals.is_first
    return _report(_lane_signal(classified, refusals), classified, probe=probe, began=began, again=again)


def instance_report(classified: Classified, *, probe: bool, lane: int = 0) -> Report | None:
    """Return the report for the instance's breaker of an attempt of `lane`; `None` if it means nothing for it."""
    return _report(_INSTANCE.get(classified.evidence), classified, probe=probe, lane=lane)


def _lane_signal(classified: Classified, refusals: Refusals) -> Signal | None:
    match classified.outcome:
        case Outcome.INSTANCE_DOWN:
            # What this lane alone may cause counts for its own breaker too; the rest only for the instance's.
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
