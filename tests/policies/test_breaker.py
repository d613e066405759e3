"""The breaker by cases, and by a machine that tries to make it break its promises."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reliability.policies import breaker
from reliability.policies.breaker import Policy, Report, Signal, Snapshot, State

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = Policy(threshold=3, window=60 * SECOND, recovery=10 * SECOND)


def failing(times, *, policy=POLICY, snapshot=None, limit=5) -> Snapshot:
    """Fail at these seconds after `NOW`."""
    snapshot = snapshot or Snapshot()
    for at in times:
        report = Report(Signal.FAILURE, reason="boom")
        snapshot = breaker.record(
            snapshot=snapshot, policy=policy, report=report, now=NOW + at * SECOND, limit=limit
        ).snapshot
    return snapshot


@pytest.mark.parametrize(
    ("times", "state"),
    [
        ([0, 1], State.CLOSED),
        ([0, 1, 2], State.OPEN),
        ([0, 30, 61], State.CLOSED),  # the first has left the window
        ([0, 30, 59], State.OPEN),
        ([0, 1, 62, 63, 64], State.OPEN),
    ],
)
def test_the_window_slides(times, state):
    assert failing(times).state is state


def test_a_trip_opens_at_once_with_its_reason():
    report = Report(Signal.TRIP, reason="http_401: Unauthorized")
    verdict = breaker.record(snapshot=Snapshot(), policy=POLICY, report=report, now=NOW, limit=5)
    assert verdict.snapshot.state is State.OPEN
    assert verdict.transition.reason == "http_401: Unauthorized"


def test_a_minimum_rate_needs_both():
    policy = Policy(threshold=2, window=60 * SECOND, recovery=SECOND, minimum_failure_rate=0.5)
    snapshot = Snapshot()
    for signal in [Signal.SUCCESS] * 5 + [Signal.FAILURE] * 4:
        snapshot = breaker.record(snapshot=snapshot, policy=policy, report=Report(signal), now=NOW, limit=5).snapshot
    assert snapshot.state is State.CLOSED  # 4 of 9
    assert failing([0], policy=policy, snapshot=snapshot).state is State.OPEN  # 5 of 10


def test_recovery_grows_up_to_its_cap():
    policy = Policy(threshold=1, window=SECOND, recovery=10 * SECOND)
    assert [policy.wait(openings=n).total_seconds() for n in (1, 2, 3, 4, 99)] == [10, 20, 40, 40, 40]


@pytest.mark.parametrize(("after", "allowed"), [(9.9, 0), (10, 1)])
def test_open_admits_nothing_until_its_probe_is_due(after, allowed):
    admission = breaker.admit(snapshot=failing([0, 0, 0]), now=NOW + after * SECOND)
    assert (admission.allowed, admission.probe) == (allowed, bool(allowed))


def test_a_clock_set_back_does_not_keep_it_open():
    assert breaker.admit(snapshot=failing([0, 0, 0]), now=NOW - timedelta(days=30)).allowed == 1


def test_one_probe_at_a_time_and_another_when_its_lease_ends():
    opened = failing([0, 0, 0])
    at = NOW + 10 * SECOND
    probing = breaker.begin_probe(snapshot=opened, now=at, lease=5 * SECOND).snapshot
    assert breaker.admit(snapshot=probing, now=at + 4 * SECOND).allowed == 0
    assert breaker.admit(snapshot=probing, now=at + 5 * SECOND).allowed == 1
    assert breaker.admit(snapshot=breaker.release_probe(snapshot=probing), now=at).allowed == 1


def test_after_closing_the_backlog_ramps_up():
    snapshot = breaker.reset(snapshot=failing([0, 0, 0]), reason="").snapshot
    widths = []
    for _ in range(6):
        widths.append(breaker.admit(snapshot=snapshot, now=NOW).allowed)
        snapshot = breaker.record(
            snapshot=snapshot, policy=POLICY, report=Report(Signal.SUCCESS), now=NOW, limit=5
        ).snapshot
    assert widths == [1, 2, 3, 4, None, None]


class Promises(RuleBasedStateMachine):
    """Several workers' attempts in any order, late reports, leases that run out, a hand, a clock that jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy(threshold=3, window=30 * SECOND, recovery=5 * SECOND, good_probes=2)
        self.snapshot = Snapshot()
        self.now = NOW
        self.probes: list[datetime] = []  # the ends of the leases of probes under way
        self.failures: list[datetime] = []  # since it was last closed anew

    def keep(self, verdict) -> None:
        before = self.snapshot.state
        self.snapshot = verdict.snapshot
        assert (verdict.transition is not None) == (before is not self.snapshot.state)
        if verdict.transition is not None:
            assert (verdict.transition.from_state, verdict.transition.to_state) == (before, self.snapshot.state)
        if self.snapshot.state is not State.HALF_OPEN:
            self.probes = []

    @rule(seconds=st.floats(0, 40))
    def time_goes_on(self, seconds) -> None:
        self.now += seconds * SECOND

    @rule()
    def ask(self) -> None:
        admission = breaker.admit(snapshot=self.snapshot, now=self.now)
        if self.snapshot.state is State.CLOSED:
            assert not admission.probe
            assert admission.allowed is None or admission.allowed >= 1
            return
        assert admission.allowed in (0, 1)
        assert admission.probe == (admission.allowed == 1)
        if admission.allowed:
            under_way = [end for end in self.probes if end > self.now]
            assert not under_way, "two probes at once"
            self.keep(breaker.begin_probe(snapshot=self.snapshot, now=self.now, lease=8 * SECOND))
            self.probes.append(self.now + 8 * SECOND)

    @rule(failed=st.booleans())
    def hear_an_ordinary_attempt(self, failed) -> None:
        before = self.snapshot
        signal = Signal.FAILURE if failed else Signal.SUCCESS
        verdict = breaker.record(
            snapshot=before, policy=self.policy, report=Report(signal, reason="x"), now=self.now, limit=4
        )
        if before.state is not State.CLOSED:
            assert verdict.snapshot == before, "a late report changed a breaker that is not closed"
        elif failed:
            self.failures.append(self.now)
        self.keep(verdict)
        if before.state is State.CLOSED and self.snapshot.state is State.OPEN:
            recent = [at for at in self.failures if self.now - at <= self.policy.window]
            assert len(recent) >= self.policy.threshold, "opened too early"

    @precondition(lambda self: self.snapshot.state is State.HALF_OPEN and self.probes)
    @rule(good=st.booleans())
    def hear_a_probe(self, good) -> None:
        openings = self.snapshot.openings
        signal = Signal.SUCCESS if good else Signal.FAILURE
        self.probes.pop()
        report = Report(signal, probe=True, reason="x")
        self.keep(breaker.record(snapshot=self.snapshot, policy=self.policy, report=report, now=self.now, limit=4))
        if good:
            assert self.snapshot.state in (State.HALF_OPEN, State.CLOSED)
        else:
            assert self.snapshot.state is State.OPEN
            assert self.snapshot.next_probe_at - self.now == self.policy.wait(openings=openings + 1)
        if self.snapshot.state is State.CLOSED:
            self.failures = []

    @rule()
    def reset(self) -> None:
        self.keep(breaker.reset(snapshot=self.snapshot, reason="by hand"))
        self.failures = []
        assert self.snapshot.state is State.CLOSED

    @rule(until=st.one_of(st.none(), st.floats(1, 20)))
    def force_open(self, until) -> None:
        end = None if until is None else self.now + until * SECOND
        self.keep(breaker.force_open(snapshot=self.snapshot, now=self.now, reason="by hand", until=end))
        assert breaker.admit(snapshot=self.snapshot, now=self.now).allowed == 0

    @invariant()
    def it_never_stays_shut_for_ever(self) -> None:
        """Unless a person holds it, something may go once its longest wait is over."""
        if self.snapshot.state is State.FORCED_OPEN and self.snapshot.forced_until is None:
            return
        later = self.now + self.policy.longest + 60 * SECOND
        assert breaker.admit(snapshot=self.snapshot, now=later).allowed != 0

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.snapshot.buckets) <= breaker.SLICES + 1


Promises.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestPromises = Promises.TestCase
