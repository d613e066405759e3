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


class State(enum.StrEnum):
    """Closed lets all through, open nothing, half-open one probe at a time; forced-open waits for a person."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"


class Signal(enum.StrEnum):
    """What an attempt tells a breaker. `TRIP` opens it at once, however few failures there were."""

    SUCCESS = "success"
    FAILURE = "failure"
    TRIP = "trip"


@dataclass(frozen=True, slots=True)
class Policy:
    """When to open, and how to come back. `recovery_cap` of `None` is four times `recovery`."""

    threshold: int
    window: timedelta
    recovery: timedelta
    minimum_failure_rate: float | None = None
    good_probes: int = 1
    recovery_factor: float = 2.0
    recovery_cap: timedelta | None = None

    @property
    def longest(self) -> timedelta:
        return self.recovery_cap if self.recovery_cap is not None else 4 * self.recovery

    def wait(self, *, openings: int) -> timedelta:
        """Return how long to stay open the `openings`-th time (from 1) in a row."""
        factor = self.recovery_factor ** min(max(openings, 1) - 1, 32)
        if factor * self.recovery.total_seconds() >= self.longest.total_seconds():
            return max(self.longest, self.recovery)
        return self.recovery * factor


Bucket = tuple[int, int, int]
"""A slice of the window: its start in milliseconds since 1970, its failures, its successes."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a breaker remembers. `openings` counts them since it was last closed; `ramp` narrows the limit."""

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


@dataclass(frozen=True, slots=True)
class Admission:
    """How many may be in flight (`None`: the breaker does not say), whether as a probe, and when to ask again."""

    allowed: int | None
    probe: bool = False
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """An attempt's result, whether it was a probe, and what failed."""

    signal: Signal
    probe: bool = False
    reason: str = ""


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
            return _after(_first_probe(snapshot, now), now)
        case State.HALF_OPEN:
            return _after(snapshot.probe_until, now)
        case State.FORCED_OPEN if snapshot.forced_until is None:
            return Admission(0)
        case _:
            return _after(snapshot.forced_until, now)


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
    when the breaker opened say nothing new.
    """
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


def _after(moment: datetime | None, now: datetime) -> Admission:
    if moment is not None and now < moment:
        return Admission(0, retry_at=moment)
    return Admission(1, probe=True)


def _first_probe(snapshot: Snapshot, now: datetime) -> datetime | None:
    """Return when the first probe is due: at once if the breaker opened "later" than now, by a clock set back."""
    if snapshot.opened_at is not None and snapshot.opened_at > now:
        return None
    return snapshot.next_probe_at


def _record_closed(snapshot: Snapshot, policy: Policy, report: Report, now: datetime, limit: int) -> Verdict:
    if report.signal is Signal.TRIP:
        return _open(snapshot, policy, report.reason, now)
    if report.signal is Signal.SUCCESS:
        ramp = bulkhead.next_ramp(ramp=snapshot.ramp, limit=limit)
        counted = _count(snapshot, policy, now, failed=False) if policy.minimum_failure_rate else snapshot
        return Verdict(replace(counted, ramp=ramp))
    counted = _count(snapshot, policy, now, failed=True)
    return _open(counted, policy, report.reason, now) if _too_many(counted, policy) else Verdict(counted)


def _record_probe(snapshot: Snapshot, policy: Policy, report: Report, now: datetime) -> Verdict:
    if report.signal is not Signal.SUCCESS:
        return _open(snapshot, policy, report.reason, now)
    good = snapshot.good_probes + 1
    if good >= policy.good_probes:
        return _close(snapshot, "recovered")
    return Verdict(replace(snapshot, good_probes=good, probe_until=None))


def _open(snapshot: Snapshot, policy: Policy, reason: str, now: datetime) -> Verdict:
    openings = snapshot.openings + 1
    following = Snapshot(
        state=State.OPEN,
        reason=reason,
        buckets=snapshot.buckets,
        opened_at=now,
        next_probe_at=now + policy.wait(openings=openings),
        openings=openings,
    )
    return _verdict(snapshot, following, reason)


def _close(snapshot: Snapshot, reason: str) -> Verdict:
    if snapshot.state is State.CLOSED:
        return Verdict(replace(snapshot, buckets=()))
    return _verdict(snapshot, Snapshot(ramp=1), reason)


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


def _too_many(snapshot: Snapshot, policy: Policy) -> bool:
    failures = sum(bucket[1] for bucket in snapshot.buckets)
    if failures < policy.threshold:
        return False
    total = failures + sum(bucket[2] for bucket in snapshot.buckets)
    return failures / total >= (policy.minimum_failure_rate or 0.0)
