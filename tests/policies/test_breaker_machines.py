"""The breaker by machines that try to make it break its promises: whatever happens, in any order."""

from datetime import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reliability.policies import breaker
from reliability.policies.breaker import Policy, Report, Signal, Snapshot, State

from .breaker_values import NOW, SECOND, success, suspicion


class Shared(RuleBasedStateMachine):
    """A shared breaker, several lanes: proof, suspicion, successes, probes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy(threshold=4, window=30 * SECOND, recovery=20 * SECOND, early_cap=10 * SECOND)
        self.snapshot = Snapshot()
        self.now = NOW
        self.proofs: list[datetime] = []
        self.suspected: dict[int, list[datetime]] = {}  # since any lane last succeeded
        self.probe = False

    def hear(self, report) -> None:
        before = self.snapshot.state
        self.snapshot = breaker.record(
            snapshot=self.snapshot, policy=self.policy, report=report, now=self.now, limit=4
        ).snapshot
        if before is not self.snapshot.state:
            if self.snapshot.state is State.OPEN and before is State.CLOSED:
                self.was_right_to_open()
            self.suspected = {}
            self.proofs = self.proofs if self.snapshot.state is State.OPEN else []

    def was_right_to_open(self) -> None:
        since = self.now - self.policy.window - SECOND
        proofs = [at for at in self.proofs if at > since]
        lanes = [lane for lane, times in self.suspected.items() if times[-1] > since]
        failures = len(proofs) + sum(min(2, len(self.suspected[lane])) for lane in lanes)
        assert len(proofs) >= 4 or (len(lanes) >= 2 and failures >= 4), "one lane alone opened it"

    @rule(seconds=st.floats(0, 12))
    def time_goes_on(self, seconds) -> None:
        self.now += seconds * SECOND

    @rule(lane=st.integers(1, 3))
    def a_lane_fails(self, lane) -> None:
        if self.snapshot.state is State.CLOSED:
            self.suspected.setdefault(lane, []).append(self.now)
        self.hear(suspicion(lane))

    @rule(lane=st.integers(1, 3))
    def a_lane_is_refused_the_connection(self, lane) -> None:
        if self.snapshot.state is State.CLOSED:
            self.proofs.append(self.now)
        self.hear(Report(Signal.FAILURE, reason="x", lane=lane, early=True))

    @rule(lane=st.integers(1, 3))
    def a_lane_succeeds(self, lane) -> None:
        before = self.snapshot.state
        self.hear(success(lane, began=self.now))
        if before is State.CLOSED:
            self.suspected = {}
            assert self.snapshot.suspects == ()

    @rule(lane=st.integers(1, 3), kind=st.sampled_from(["suspicion", "proof", "success", "nothing"]))
    def a_probe_comes_back(self, lane, kind) -> None:
        admission = breaker.admit(snapshot=self.snapshot, now=self.now)
        if not admission.probe:
            return
        self.snapshot = breaker.begin_probe(snapshot=self.snapshot, now=self.now, lease=8 * SECOND).snapshot
        known = {one[0] for one in self.snapshot.suspects}
        match kind:
            case "suspicion":
                self.hear(suspicion(lane, probe=True))
                if self.snapshot.state is State.OPEN:
                    assert known - {lane}, "one lane's probes alone kept it open"
            case "proof":
                self.hear(Report(Signal.FAILURE, probe=True, reason="x", lane=lane, early=True))
                assert self.snapshot.state is State.OPEN
            case "success":
                self.hear(success(lane, probe=True, began=self.now))
                assert self.snapshot.state is State.CLOSED
            case _:
                self.snapshot = breaker.release_probe(snapshot=self.snapshot)
                assert breaker.admit(snapshot=self.snapshot, now=self.now).probe

    @invariant()
    def it_is_asked_again_within_its_cap(self) -> None:
        later = self.now + max(self.policy.early_cap, self.policy.window) + SECOND
        assert breaker.admit(snapshot=self.snapshot, now=later).allowed != 0

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.snapshot.suspects) <= 3


Shared.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestShared = Shared.TestCase


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
        later = self.now + self.policy.longest_recovery + 60 * SECOND
        assert breaker.admit(snapshot=self.snapshot, now=later).allowed != 0

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.snapshot.buckets) <= breaker.SLICES + 1


Promises.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestPromises = Promises.TestCase
