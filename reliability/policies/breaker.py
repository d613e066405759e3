"""The circuit breaker: a snapshot, an event and `now` give the next snapshot and what changed.

Permission (`admit`) is apart from result (`record`), since both happen in different processes. What the caller
must keep: the snapshot's changes are written under one lock per breaker, and a probe is begun in the
transaction that claims what it sends.
"""

import enum
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from . import bulkhead

# The sliding window is counted in this many slices.
SLICES = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# The first recovery where the cause is not the workflow: whatever it is may be over at any moment.
EARLY_RECOVERY = timedelta(seconds=5)
# A probe that only casts suspicion keeps the next one back for this long, times how often its lane did so.
INCONCLUSIVE_WAIT = timedelta(seconds=1)
# So many requests refused in a row, and none let through: a gateway refuses the lane, not a payload.
REFUSALS = 3


class State(enum.StrEnum):
    """Closed lets all through, open nothing, half-open one probe at a time; forced-open waits for a person."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"


class Signal(enum.StrEnum):
    """What an attempt tells a breaker.

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
    """When to open, and how to come back. `recovery_cap` of `None` is four times `recovery`.

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
        """How many of the failures that open a shared breaker one lane can supply at most."""
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
"""A lane that suffers what it may cause itself: its id, how often so far, when last in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a breaker remembers. `openings` counts them since it was last closed; `ramp` narrows the limit.

    `suspects` are the lanes that failed, perhaps by their own fault, since any lane last succeeded. Of requests that a
    gateway refused, `refusals` counts those in a row and `refused_at` is the last one's time, until a success whose
    attempt began later; `passed_at` is when such a success began.
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
    """How many may be in flight (`None`: the breaker does not say), whether as a probe, and when to ask again."""

    allowed: int | None
    probe: bool = False
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """An attempt's result, whether it was a probe, and what failed.

    `lane` is whose attempt it was, and `began` when it was claimed: what a shared breaker, or refusals, need to know.
    With `early`, the cause is none of the workflow's, so a breaker that opens by it is probed early. With `again`, the
    same delivery was refused before, and nothing got through since.
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
    """Say what may go at `now`. Changes nothing: what is sent as a probe goes through `begin_probe`."""
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
    """Note that a probe goes out; if nothing is heard of it, another may go when its lease ends."""
    following = replace(snapshot, state=State.HALF_OPEN, probe_until=now + lease, forced_until=None)
    return _verdict(snapshot, following, snapshot.reason)


def release_probe(*, snapshot: Snapshot) -> Snapshot:
    """Free the place of a probe that told nothing either way."""
    return replace(snapshot, probe_until=None) if snapshot.state is State.HALF_OPEN else snapshot


def record(*, snapshot: Snapshot, policy: Policy, report: Report, now: datetime, limit: int) -> Verdict:
    """Take in an attempt's result. `limit` is the concurrency limit that a slow start grows back to.

    Only probes count while half-open, and nothing counts while open: results of attempts that were under way
    when the breaker opened say nothing new. Refusals, and what got through after them, are noted in any state: what
    becomes of a refused delivery depends on it.
    """
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
    """Close the breaker by hand; the backlog still ramps up."""
    return _close(snapshot, reason or "reset")


def force_open(*, snapshot: Snapshot, now: datetime, reason: str, until: datetime | None = None) -> Verdict:
    """Open the breaker by hand, until it is reset or, with `until`, until then; a probe decides after that."""
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
    """Return when the first probe is due: at once if the breaker opened "later" than now, by a clock set back."""
    if snapshot.opened_at is not None and snapshot.opened_at > now:
        return None
    return snapshot.next_probe_at


def _record_closed(snapshot: Snapshot, policy: Policy, report: Report, now: datetime, limit: int) -> Verdict:
    match report.signal:
        case Signal.TRIP:
            return _open(snapshot, policy, report, now)
        case Signal.SUCCESS:
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
    """Ask another lane before opening again: one that always fails must not keep a shared breaker from closing."""
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


def _slice(policy: Policy) -> int:
    return max(1, policy.window // MILLISECOND // SLICES)


def _recent(buckets: tuple[Bucket, ...], policy: Policy, now: datetime) -> tuple[Bucket, ...]:
    """Return the slices within the window. One that lies ahead was written before the clock was set back."""
    present = (now - EPOCH) // MILLISECOND
    oldest = present - policy.window // MILLISECOND
    return tuple(bucket for bucket in buckets if oldest < bucket[0] <= present)


def _count(snapshot: Snapshot, policy: Policy, now: datetime, *, failed: bool) -> Snapshot:
    size = _slice(policy)
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
    """Note a success after refusals. One that began before the last of them says nothing of what that one met."""
    if not snapshot.refusals or report.began is None:
        return snapshot
    passed = max(report.began, snapshot.passed_at or report.began)
    if snapshot.refused_at is not None and report.began <= snapshot.refused_at:
        return replace(snapshot, passed_at=passed)
    return replace(snapshot, passed_at=passed, refusals=0, refused_at=None)


def _suspect(snapshot: Snapshot, policy: Policy, report: Report, now: datetime) -> Snapshot:
    """Count a lane's failure against it; lanes that have long been silent are left out."""
    known = {lane: count for lane, count, _ in _recent_suspects(snapshot, policy, now)}
    present = (now - EPOCH) // MILLISECOND
    # No lane needs to be counted further than its share goes: the row stays small.
    count = min(known.get(report.lane, 0) + 1, policy.suspect_limit)
    others = tuple(one for one in _recent_suspects(snapshot, policy, now) if one[0] != report.lane)
    return replace(snapshot, suspects=(*others, (report.lane, count, present)))


def _recent_suspects(snapshot: Snapshot, policy: Policy, now: datetime) -> tuple[Suspect, ...]:
    present = (now - EPOCH) // MILLISECOND
    oldest = present - policy.window // MILLISECOND
    return tuple(one for one in snapshot.suspects if oldest < one[2] <= present)


def _suspects_exceed_threshold(snapshot: Snapshot, policy: Policy, now: datetime) -> bool:
    """Whether several lanes fail, and none succeeds: that is no lane's own fault."""
    suspects = _recent_suspects(snapshot, policy, now)
    failures = sum(failures for _, failures, _ in _recent(snapshot.buckets, policy, now))
    return len(suspects) > 1 and failures + sum(count for _, count, _ in suspects) >= policy.threshold
