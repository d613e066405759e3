"""The circuit breaker: a snapshot, an event and `now` give the next snapshot and the change of state.

Permission (`admit`) and result (`record`) are separate, since they happen in different processes. The caller must write
a snapshot's changes under one lock per breaker, and begin a probe in the transaction that claims what it sends.
"""

import enum
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from . import bulkhead

# The sliding window is counted in this many slices: the row stays small, and the window is exact to 1 %.
SLICES = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# The first recovery where the cause is not the workflow itself, so that it may end at any moment.
EARLY_RECOVERY = timedelta(seconds=5)
# The wait after a probe that proved nothing about a shared breaker, times the number of such results of its lane.
INCONCLUSIVE_WAIT = timedelta(seconds=1)
# Requests that a gateway refused in a row, with no success in between, after which the cause is the lane, not a
# payload.
REFUSALS = 3


class State(enum.StrEnum):
    """Closed admits everything, open nothing, half-open one probe at a time; forced open waits for an operator."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"


class Signal(enum.StrEnum):
    """What an attempt means for a breaker.

    `TRIP` opens it at once, however few failures there were. `SUSPICION` is a failure that one lane alone can cause:
    it opens a breaker that several lanes share only if several of them fail, and none succeeds. `REFUSAL` is a
    request that a gateway turned away: a few in a row, without a success, open the lane.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    TRIP = "trip"
    SUSPICION = "suspicion"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Policy:
    """When to open, and how to recover. `recovery_cap` of `None` is four times `recovery`.

    A breaker that opened for a cause which may end at any moment is probed after `EARLY_RECOVERY`, then at growing
    intervals up to the longest recovery; where n8n is down (`Report.early`), only up to `early_cap`.
    """

    threshold: int
    window: timedelta
    recovery: timedelta
    minimum_failure_rate: float | None = None
    good_probes: int = 1
    recovery_factor: float = 2.0
    recovery_cap: timedelta | None = None
    early_cap: timedelta | None = None

    @property
    def longest_recovery(self) -> timedelta:
        return self.recovery_cap if self.recovery_cap is not None else 4 * self.recovery

    @property
    def suspect_limit(self) -> int:
        """How many failures of one lane count at most towards opening a shared breaker."""
        return max(1, self.threshold // 2)

    def wait(self, *, openings: int, early: bool = False, capped: bool = False) -> timedelta:
        """Return how long to stay open the `openings`-th time (from 1) in a row; `capped`: never above `early_cap`."""
        first = min(EARLY_RECOVERY, self.recovery) if early else self.recovery
        longest = max(self.longest_recovery, self.recovery)
        if capped and self.early_cap is not None:
            longest = max(first, min(longest, self.early_cap))
        factor = self.recovery_factor ** min(max(openings, 1) - 1, 32)
        if factor * first.total_seconds() >= longest.total_seconds():
            return longest
        return first * factor


Bucket = tuple[int, int, int]
"""A slice of the window: its start in milliseconds since 1970, its failures, its successes."""

Suspect = tuple[int, int, int]
"""A lane with failures that it may cause itself: its id, their number, the last one's time in ms since 1970."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a breaker. `openings` counts them since it was last closed; `ramp` lowers the concurrency limit.

    `suspects` are the lanes that failed, perhaps by their own fault, since any lane last succeeded. `refusals` counts
    requests in a row that a gateway refused, and `refused_at` is the last one's time, until an attempt that began later
    succeeds; `passed_at` is when that attempt began.
    """

    state: State = State.CLOSED
    reason: str = ""
    buckets: tuple[Bucket, ...] = ()
    opened_at: datetime | None = None
    next_probe_at: datetime | None = None
    forced_until: datetime | None = None
    openings: int = 0
    probe_until: datetime | None = None
    good_probes: int = 0
    ramp: int | None = None
    suspects: tuple[Suspect, ...] = ()
    refusals: int = 0
    refused_at: datetime | None = None
    passed_at: datetime | None = None

    @property
    def ignores_success(self) -> bool:
        """Whether a success would change nothing, as long as no minimum rate is set."""
        return self.state is State.CLOSED and self.ramp is None and not self.suspects and not self.refusals


@dataclass(frozen=True, slots=True)
class Admission:
    """How many may be in flight (`None`: no limit), whether as a probe, and when to ask again."""

    allowed: int | None
    probe: bool = False
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """An attempt's result, whether it was a probe, and what failed.

    `lane` is the attempt's lane id and `began` when it was claimed; shared breakers and refusals need them. `early`:
    the cause is not the workflow, so a breaker that opens is probed early. `again`: the same delivery was refused
    before, and nothing got through since.
    """

    signal: Signal
    probe: bool = False
    reason: str = ""
    lane: int = 0
    began: datetime | None = None
    early: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state."""

    from_state: State
    to_state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The snapshot to keep, and the change of state, if it is one."""

    snapshot: Snapshot
    transition: Transition | None = None


def admit(*, snapshot: Snapshot, now: datetime) -> Admission:
    """Return what is admitted at `now`. Changes nothing; a probe has to be recorded with `begin_probe`."""
    match snapshot.state:
        case State.CLOSED:
            return Admission(snapshot.ramp)
        case State.OPEN:
            return _probe_after(_first_probe_at(snapshot, now), now)
        case State.HALF_OPEN:
            return _probe_after(snapshot.probe_until, now)
        case State.FORCED_OPEN if snapshot.forced_until is None:
            return Admission(0)
        case _:
            return _probe_after(snapshot.forced_until, now)


def begin_probe(*, snapshot: Snapshot, now: datetime, lease: timedelta) -> Verdict:
    """Record that a probe is sent. If its result never comes, another may be sent when its lease ends."""
    following = replace(snapshot, state=State.HALF_OPEN, probe_until=now + lease, forced_until=None)
    return _verdict(snapshot, following, snapshot.reason)


def release_probe(*, snapshot: Snapshot) -> Snapshot:
    """Release a probe whose result was neither a success nor a failure."""
    return replace(snapshot, probe_until=None) if snapshot.state is State.HALF_OPEN else snapshot


def record(*, snapshot: Snapshot, policy: Policy, report: Report, now: datetime, limit: int) -> Verdict:
    """Record an attempt's result. `limit` is the concurrency limit that the slow start grows back to.

    Only probes count while half-open, and nothing counts while open.
    """
    # Attempts that were in flight when the breaker opened say nothing new. Refusals, and successes after them, are
    # recorded in any state, since they decide what happens to a refused delivery.
    if report.signal is Signal.SUCCESS:
        snapshot = _note_success_after_refusals(snapshot, report)
    elif report.signal is Signal.REFUSAL:
        snapshot = replace(snapshot, refusals=snapshot.refusals + 1, refused_at=now)
    if snapshot.state is State.CLOSED:
        return _record_closed(snapshot, policy, report, now, limit)
    if snapshot.state is State.HALF_OPEN and report.probe:
        return _record_probe(snapshot, policy, report, now)
    return Verdict(snapshot)


def reset(*, snapshot: Snapshot, reason: str) -> Verdict:
    """Close the breaker for an operator; the slow start still applies."""
    return _close(snapshot, reason or "reset")


def force_open(*, snapshot: Snapshot, now: datetime, reason: str, until: datetime | None = None) -> Verdict:
    """Force the breaker open until it is reset or, with `until`, until then; after that a probe decides."""
    following = Snapshot(
        state=State.FORCED_OPEN, reason=reason, opened_at=now, forced_until=until, openings=snapshot.openings
    )
    return _verdict(snapshot, following, reason)


def failures_in_window(*, snapshot: Snapshot, policy: Policy, now: datetime) -> int:
    """Return how many failures the sliding window holds at `now`."""
    return sum(failures for _, failures, _ in _recent(snapshot.buckets, policy, now))


def _probe_after(moment: datetime | None, now: datetime) -> Admission:
    if moment is not None and now < moment:
        return Admission(0, retry_at=moment)
    return Admission(1, probe=True)


def _first_probe_at(snapshot: Snapshot, now: datetime) -> datetime | None:
    """Return when the first probe is due."""
    # The clock was set back if the breaker opened in the future: probe at once rather than stay open for as long.
    if snapshot.opened_at is not None and snapshot.opened_at > now:
        return None
    return snapshot.next_probe_at


def _record_closed(snapshot: Snapshot, policy: Policy, report: Report, now: datetime, limit: int) -> Verdict:
    match report.signal:
        case Signal.TRIP:
            return _open(snapshot, policy, report, now)
        case Signal.SUCCESS:
            # Successes are counted only where a minimum failure rate needs them: each count would write the row.
            ramp = bulkhead.next_ramp(ramp=snapshot.ramp, limit=limit)
            counted = _count(snapshot, policy, now, failed=False) if policy.minimum_failure_rate else snapshot
            return Verdict(replace(counted, ramp=ramp, suspects=()))
        case Signal.REFUSAL:
            opens = report.again or snapshot.refusals >= REFUSALS
            return _open(snapshot, policy, report, now) if opens else Verdict(snapshot)
        case Signal.SUSPICION:
            suspected = _suspect(snapshot, policy, report, now)
            opens = _suspects_exceed_threshold(suspected, policy, now)
            return _open(suspected, policy, report, now) if opens else Verdict(suspected)
        case _:
            counted = _count(snapshot, policy, now, failed=True)
            opens = _failures_exceed_threshold(counted, policy) or _suspects_exceed_threshold(counted, policy, now)
            return _open(counted, policy, report, now) if opens else Verdict(counted)


def _record_probe(snapshot: Snapshot, policy: Policy, report: Report, now: datetime) -> Verdict:
    if report.signal is Signal.SUSPICION:
        return _record_suspicious_probe(snapshot, policy, report, now)
    if report.signal is not Signal.SUCCESS:
        return _open(snapshot, policy, report, now)
    good = snapshot.good_probes + 1
    if good >= policy.good_probes:
        return _close(snapshot, "recovered")
    return Verdict(replace(snapshot, good_probes=good, probe_until=None, suspects=()))


def _record_suspicious_probe(snapshot: Snapshot, policy: Policy, report: Report, now: datetime) -> Verdict:
    """Wait for another lane's probe before opening again: one broken lane must not keep a shared breaker open."""
    suspected = _suspect(snapshot, policy, report, now)
    if len(_recent_suspects(suspected, policy, now)) > 1:
        return _open(suspected, policy, report, now)
    return Verdict(replace(suspected, probe_until=now + INCONCLUSIVE_WAIT * suspected.suspects[-1][1]))


def _open(snapshot: Snapshot, policy: Policy, report: Report, now: datetime) -> Verdict:
    openings = snapshot.openings + 1
    capped = report.early or report.signal is Signal.SUSPICION
    early = capped or report.signal in (Signal.TRIP, Signal.REFUSAL)
    following = Snapshot(
        state=State.OPEN,
        reason=report.reason,
        buckets=snapshot.buckets,
        opened_at=now,
        next_probe_at=now + policy.wait(openings=openings, early=early, capped=capped),
        openings=openings,
        refusals=snapshot.refusals,
        refused_at=snapshot.refused_at,
        passed_at=snapshot.passed_at,
    )
    return _verdict(snapshot, following, report.reason)


def _close(snapshot: Snapshot, reason: str) -> Verdict:
    if snapshot.state is State.CLOSED:
        return Verdict(replace(snapshot, buckets=(), suspects=(), refusals=0, refused_at=None))
    return _verdict(snapshot, Snapshot(ramp=1, passed_at=snapshot.passed_at), reason)


def _verdict(before: Snapshot, after: Snapshot, reason: str) -> Verdict:
    if before.state is after.state:
        return Verdict(after)
    return Verdict(after, Transition(before.state, after.state, reason))


def _recent(buckets: tuple[Bucket, ...], policy: Policy, now: datetime) -> tuple[Bucket, ...]:
    """Return the slices within the window; those in the future were written before the clock was set back."""
    present = (now - EPOCH) // MILLISECOND
    oldest = present - policy.window // MILLISECOND
    return tuple(bucket for bucket in buckets if oldest < bucket[0] <= present)


def _count(snapshot: Snapshot, policy: Policy, now: datetime, *, failed: bool) -> Snapshot:
    size = max(1, policy.window // MILLISECOND // SLICES)
    start = (now - EPOCH) // MILLISECOND // size * size
    kept = {bucket[0]: bucket for bucket in _recent(snapshot.buckets, policy, now)}
    _, failures, successes = kept.get(start, (start, 0, 0))
    kept[start] = (start, failures + failed, successes + (not failed))
    return replace(snapshot, buckets=tuple(kept[key] for key in sorted(kept)))


def _failures_exceed_threshold(snapshot: Snapshot, policy: Policy) -> bool:
    failures = sum(bucket[1] for bucket in snapshot.buckets)
    if failures < policy.threshold:
        return False
    total = failures + sum(bucket[2] for bucket in snapshot.buckets)
    return failures / total >= (policy.minimum_failure_rate or 0.0)


def _note_success_after_refusals(snapshot: Snapshot, report: Report) -> Snapshot:
    """Record a success after refusals. One that began before the last refusal does not end the series."""
    if not snapshot.refusals or report.began is None:
        return snapshot
    passed = max(report.began, snapshot.passed_at or report.began)
    if snapshot.refused_at is not None and report.began <= snapshot.refused_at:
        return replace(snapshot, passed_at=passed)
    return replace(snapshot, passed_at=passed, refusals=0, refused_at=None)


def _suspect(snapshot: Snapshot, policy: Policy, report: Report, now: datetime) -> Snapshot:
    """Count a failure that a lane may have caused itself; lanes without one within the window are dropped."""
    known = {lane: count for lane, count, _ in _recent_suspects(snapshot, policy, now)}
    present = (now - EPOCH) // MILLISECOND
    # A lane is counted up to its limit only: more would change nothing, but write the row each time.
    count = min(known.get(report.lane, 0) + 1, policy.suspect_limit)
    others = tuple(one for one in _recent_suspects(snapshot, policy, now) if one[0] != report.lane)
    return replace(snapshot, suspects=(*others, (report.lane, count, present)))


def _recent_suspects(snapshot: Snapshot, policy: Policy, now: datetime) -> tuple[Suspect, ...]:
    present = (now - EPOCH) // MILLISECOND
    oldest = present - policy.window // MILLISECOND
    return tuple(one for one in snapshot.suspects if oldest < one[2] <= present)


def _suspects_exceed_threshold(snapshot: Snapshot, policy: Policy, now: datetime) -> bool:
    """Whether several lanes fail and none succeeds, so that it is no lane's own fault."""
    suspects = _recent_suspects(snapshot, policy, now)
    failures = sum(failures for _, failures, _ in _recent(snapshot.buckets, policy, now))
    return len(suspects) > 1 and failures + sum(count for _, count, _ in suspects) >= policy.threshold
