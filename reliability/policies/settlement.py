"""What becomes of a delivery after an attempt: the classification, held against the lane's policy."""

import enum
from dataclasses import dataclass
from datetime import timedelta

from . import backoff
from .breaker import Report, Signal
from .classification import Classified, Outcome


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
class Settlement:
    """The verdict. `wait` and `spends_retry` are about a retry only; `code` and `message` say what failed."""

    step: Step
    wait: timedelta = timedelta(0)
    spends_retry: bool = False
    code: str = ""
    message: str = ""


def settle(
    *,
    classified: Classified,
    rules: Rules,
    attempt: int,
    retries_used: int,
    jitter: float,
    retry_after: timedelta | None = None,
) -> Settlement:
    """Decide on attempt number `attempt` (from 1); `jitter` is a sample in [0, 1).

    An attempt that n8n certainly did not run, or that a misconfigured lane turned away, spends no retry: the
    breaker keeps such attempts few, and the delivery waits for what is broken to be put right.
    """
    outcome = classified.outcome
    if outcome is Outcome.DELIVERED:
        return Settlement(Step.AWAIT_CALLBACK if rules.awaits_callback else Step.DELIVERED)
    if outcome is Outcome.REJECTED:
        return _bury(classified, classified.code)
    if outcome is Outcome.UNKNOWN and rules.hold_unknown:
        return _bury(classified, "outcome_unknown")
    free = outcome in (Outcome.MISCONFIGURED, Outcome.MISCONFIGURED_LOCALLY) or (
        outcome is Outcome.INSTANCE_DOWN and not classified.reached
    )
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
    return Settlement(Step.RETRY, wait, not free, classified.code, classified.message)


def _bury(classified: Classified, code: str) -> Settlement:
    return Settlement(Step.BURY, code=code, message=classified.message)


_LANE = {
    Outcome.DELIVERED: Signal.SUCCESS,
    Outcome.TRANSIENT: Signal.FAILURE,
    Outcome.UNKNOWN: Signal.FAILURE,
    Outcome.MISCONFIGURED: Signal.TRIP,
}
_INSTANCE = {
    Outcome.DELIVERED: Signal.SUCCESS,
    Outcome.INSTANCE_DOWN: Signal.FAILURE,
    Outcome.TRANSIENT: Signal.SUCCESS,
    Outcome.MISCONFIGURED: Signal.SUCCESS,
    Outcome.REJECTED: Signal.SUCCESS,
}


def lane_report(classified: Classified, *, probe: bool) -> Report | None:
    """Return what the lane's breaker hears of an attempt; `None`: nothing, it says nothing about the lane."""
    return _report(_LANE.get(classified.outcome), classified, probe)


def instance_report(classified: Classified, *, probe: bool) -> Report | None:
    """Return what the instance's breaker hears: any answer of n8n's own shows that it is there."""
    if classified.code in ("connect_timeout", "send_interrupted"):
        return None
    return _report(_INSTANCE.get(classified.outcome), classified, probe)


def _report(signal: Signal | None, classified: Classified, probe: bool) -> Report | None:
    if signal is None:
        return None
    reason = f"{classified.code}: {classified.message}" if signal is not Signal.SUCCESS else ""
    return Report(signal=signal, probe=probe, reason=reason)
