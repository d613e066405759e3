"""Reports the results of a batch of attempts to the lane's breaker and to the instance's."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings

from reliability import queue
from reliability.models import Breaker, Lane, LanePolicy
from reliability.models.policy import instance_breaker_policy
from reliability.policies.breaker import Report, Signal, State
from reliability.policies.classification import Outcome
from reliability.policies.settlement import Refusals, instance_report, lane_report

from . import breakers
from .messages import Sent


def passed_at(*, lane: Lane, batch: Sequence[Sent]) -> datetime | None:
    """Return when the last attempt began that got through after a refusal, this batch included."""
    # Computed for the whole batch first: whether a refusal is about one payload must not depend on the order in which
    # the attempts of a batch came back.
    began = [sent.claim.claimed_at for sent in batch if sent.classified.outcome is Outcome.DELIVERED]
    return max((at for at in (lane.breaker.passed_at, *began) if at is not None), default=None)


def report_to_lane(
    *, lane: Lane, policy: LanePolicy, batch: Sequence[Sent], now: datetime, passed_at: datetime | None
) -> None:
    """Record a batch's results on the breaker of its locked lane. `passed_at` is what `passed_at()` returned."""
    results = [(sent, _lane_report(lane, sent, passed_at)) for sent in batch]
    reports = [report for _, report in results if report is not None]
    limit = policy.concurrency_limit
    breakers.record_results(breaker=lane.breaker, rules=policy.breaker, reports=reports, limit=limit, now=now)
    if any(report is None and sent.claim.lane_probe for sent, report in results):
        # A probe without a verdict: without this, no other could be sent before its lease ends.
        breakers.release_probe(breaker=lane.breaker)


def _lane_report(lane: Lane, sent: Sent, passed_at: datetime | None) -> Report | None:
    claim = sent.claim
    refusals = Refusals(claim.refused_at, passed_at)
    report = lane_report(sent.classified, probe=claim.lane_probe, began=claim.claimed_at, refusals=refusals)
    if report is not None and report.signal in (Signal.TRIP, Signal.REFUSAL) and _used_another_route(lane, sent):
        return None
    return report


def _used_another_route(lane: Lane, sent: Sent) -> bool:
    """Whether the path or authentication changed during the attempt, so that it says nothing about the new route."""
    workflow, claim = lane.workflow, sent.claim
    used = (claim.url, claim.authentication, claim.signing_secret)
    return used != (workflow.url, workflow.authentication, workflow.signing_secret)


def report_to_instance(*, breaker: Breaker, batch: Sequence[Sent], now: datetime) -> Breaker:
    """Record a batch's results on the instance's breaker and return it.

    Raises `breakers.InstanceLocked` if another session has locked it; nothing is recorded then.
    """
    results = [
        (sent, instance_report(sent.classified, probe=sent.claim.instance_probe, lane=sent.claim.lane_id))
        for sent in batch
    ]
    reports = [report for _, report in results if report is not None]
    # Usually there is nothing to write. All lanes share this row, so it is locked only if there is, and never waited
    # for (`core.lock_order`).
    if breaker.snapshot.ignores_success and all(report.signal is Signal.SUCCESS for report in reports):
        return breaker
    breaker = breakers.lock_instance_nowait()
    rules = instance_breaker_policy()
    # The instance's slow start ends once as many deliveries are in flight as one lane may ever have.
    limit = settings.N8N_MAX_CONCURRENCY
    changes = breakers.record_results(breaker=breaker, rules=rules, reports=reports, limit=limit, now=now)
    if any(report is None and sent.claim.instance_probe for sent, report in results):
        breakers.release_probe(breaker=breaker)
    if any(change.to_state is State.CLOSED for change in changes):
        queue.wake_waiting()  # lanes behind an open instance breaker planned their next check for its recovery
    return breaker
