"""The breaker by cases."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies import breaker
from reliability.policies.breaker import Policy, Report, Signal, Snapshot, State

from .breaker_values import NOW, SECOND, success, suspicion

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


def recorded(snapshot, *reports, at=0.0, policy=POLICY) -> Snapshot:
    for report in reports:
        now = NOW + at * SECOND
        snapshot = breaker.record(snapshot=snapshot, policy=policy, report=report, now=now, limit=5).snapshot
    return snapshot


TEN = Policy(threshold=10, window=60 * SECOND, recovery=300 * SECOND)


@pytest.mark.parametrize(
    ("lanes", "state"),
    [
        ([1] * 100, State.CLOSED),  # one lane alone never opens it
        ([1] * 5 + [2] * 5, State.OPEN),
        ([1] * 100 + [2] * 4, State.CLOSED),  # nor can one supply more than half
        ([1] * 100 + [2] * 5, State.OPEN),
        (range(10), State.OPEN),
        (range(9), State.CLOSED),
        ([1, 2] * 5, State.OPEN),
        ([1] * 5 + [0] + [2] * 5, State.CLOSED),  # 0: a success of another lane clears it
        ([1, 2] * 4 + [0] + [1, 2] * 4, State.CLOSED),
    ],
)
def test_suspicion_opens_a_shared_breaker_only_if_several_lanes_fail_and_none_succeeds(lanes, state):
    reports = [suspicion(lane) if lane else success(3) for lane in lanes]
    if isinstance(lanes, range):
        reports = [suspicion(lane + 1) for lane in lanes]
    found = recorded(Snapshot(), *reports, policy=TEN)
    assert found.state is state
    assert found.buckets == ()


def test_suspicion_is_forgotten_with_the_window():
    found = recorded(Snapshot(), *[suspicion(1)] * 5, policy=TEN)
    assert recorded(found, *[suspicion(2)] * 5, at=61, policy=TEN).state is State.CLOSED
    assert recorded(found, *[suspicion(2)] * 5, at=59, policy=TEN).state is State.OPEN


def test_proof_opens_it_from_one_lane_alone_and_counts_with_suspicion():
    proof = Report(Signal.FAILURE, reason="connection_refused: x", lane=1, early=True)
    assert recorded(Snapshot(), *[proof] * 10, policy=TEN).state is State.OPEN
    assert recorded(Snapshot(), *[proof] * 9, *[suspicion(2)] * 3, policy=TEN).state is State.CLOSED
    assert recorded(Snapshot(), *[proof] * 8, suspicion(2), suspicion(3), policy=TEN).state is State.OPEN


def test_one_lane_alone_cannot_keep_a_shared_breaker_open():
    opened = recorded(Snapshot(), *[suspicion(1), suspicion(2)] * 5, policy=TEN)
    now = opened.next_probe_at
    probing = breaker.begin_probe(snapshot=opened, now=now, lease=60 * SECOND).snapshot
    heard = breaker.record(snapshot=probing, policy=TEN, report=suspicion(1, probe=True), now=now, limit=5).snapshot
    assert heard.state is State.HALF_OPEN
    assert breaker.admit(snapshot=heard, now=now).retry_at == now + SECOND  # another may go soon, not at once
    again = breaker.begin_probe(snapshot=heard, now=now + SECOND, lease=60 * SECOND).snapshot
    for report, state in ((suspicion(2, probe=True), State.OPEN), (success(2, probe=True), State.CLOSED)):
        found = breaker.record(snapshot=again, policy=TEN, report=report, now=now + SECOND, limit=5).snapshot
        assert found.state is state
        assert found.suspects == ()


@pytest.mark.parametrize("signal", [Signal.TRIP, Signal.SUSPICION, Signal.REFUSAL, Signal.FAILURE])
def test_what_may_be_over_at_any_moment_is_tried_early_and_at_growing_distance(signal):
    policy = Policy(threshold=1, window=60 * SECOND, recovery=300 * SECOND)
    report = Report(signal, reason="x", lane=2, early=True)
    snapshot = recorded(Snapshot(), suspicion(1), *[report] * breaker.REFUSALS, policy=policy)
    waits = []
    for _ in range(10):
        waits.append((snapshot.next_probe_at - snapshot.opened_at).total_seconds())
        now = snapshot.next_probe_at
        snapshot = breaker.begin_probe(snapshot=snapshot, now=now, lease=SECOND).snapshot
        bad = Report(Signal.FAILURE, probe=True, reason="x", early=True)
        snapshot = breaker.record(snapshot=snapshot, policy=policy, report=bad, now=now, limit=5).snapshot
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1200, 1200]


def test_an_early_wait_is_no_longer_than_the_policy_s_own_and_has_a_cap_of_its_own():
    quick = Policy(threshold=1, window=SECOND, recovery=2 * SECOND)
    assert [quick.wait(openings=n, early=True).total_seconds() for n in (1, 2, 3, 9)] == [2, 4, 8, 8]
    capped = Policy(threshold=1, window=SECOND, recovery=300 * SECOND, early_cap=30 * SECOND)
    waits = [capped.wait(openings=n, early=True, capped=True).total_seconds() for n in (1, 2, 3, 4, 99)]
    assert waits == [5, 10, 20, 30, 30]
    # What is misconfigured is asked ever more rarely; an n8n that is not there is not.
    assert capped.wait(openings=99, early=True) == 1200 * SECOND
    assert capped.wait(openings=1) == 300 * SECOND


def refusal(**values) -> Report:
    return Report(Signal.REFUSAL, reason="http_403: Forbidden", **values)


def test_a_few_refusals_in_a_row_open_the_lane():
    assert recorded(Snapshot(), refusal(), refusal()).state is State.CLOSED
    assert recorded(Snapshot(), refusal(), refusal(), refusal()).state is State.OPEN


def test_one_that_is_refused_again_opens_the_lane_at_once():
    opened = recorded(Snapshot(), refusal(again=True), at=1)
    assert (opened.state, opened.next_probe_at) == (State.OPEN, NOW + 6 * SECOND)
    # Refused while it is open, it is still to be told from others that get through.
    late = recorded(opened, refusal(again=True), at=2)
    assert (late.state, late.refusals, late.opened_at) == (State.OPEN, 2, opened.opened_at)
    probing = breaker.begin_probe(snapshot=late, now=NOW + 7 * SECOND, lease=SECOND).snapshot
    closed = recorded(probing, success(began=NOW + 7 * SECOND, probe=True), at=8)
    assert closed.passed_at == NOW + 7 * SECOND


def test_a_success_between_refusals_is_remembered_if_it_began_after_them():
    refused = recorded(Snapshot(), refusal(), refusal(), at=10)
    before = recorded(refused, success(began=NOW + 9 * SECOND), at=11)
    assert (before.refusals, before.passed_at) == (2, NOW + 9 * SECOND)
    after = recorded(before, success(began=NOW + 12 * SECOND), at=13)
    assert (after.refusals, after.passed_at) == (0, NOW + 12 * SECOND)
    assert recorded(after, success(began=NOW + 14 * SECOND), at=15) == after  # quiet again: nothing to write
    assert recorded(after, refusal(), refusal(), at=16).state is State.CLOSED


def test_what_passed_is_remembered_through_an_opening():
    opened = recorded(Snapshot(), refusal(), refusal(), refusal(), at=1)
    late = recorded(opened, success(began=NOW + 2 * SECOND), at=3)
    assert (late.state, late.passed_at) == (State.OPEN, NOW + 2 * SECOND)
    probing = breaker.begin_probe(snapshot=late, now=NOW + 7 * SECOND, lease=SECOND).snapshot
    closed = recorded(probing, success(began=NOW + 7 * SECOND, probe=True), at=8)
    assert (closed.state, closed.refusals) == (State.CLOSED, 0)
    assert closed.passed_at == NOW + 2 * SECOND  # the first one after the refusals says it


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["refusal", "again", "success", "trip", "failure", "probe"]),
            st.floats(0.1, 20),  # seconds since the event before
            st.floats(0.1, 30),  # how long the attempt took
        ),
        max_size=40,
    )
)
def test_whatever_else_happens_what_got_through_after_a_refusal_is_known(events):
    """In any state: else a delivery that alone is refused would open its lane again and again."""
    snapshot, now, refused, probed = Snapshot(), NOW, None, NOW
    for kind, passed, took in events:
        now += passed * SECOND
        began = now - took * SECOND
        if kind == "probe":
            if breaker.admit(snapshot=snapshot, now=now).probe:
                snapshot, probed = breaker.begin_probe(snapshot=snapshot, now=now, lease=5 * SECOND).snapshot, now
            continue
        if snapshot.state is State.HALF_OPEN:
            began = probed  # a probe's attempt is claimed as the probe begins
        signal = {"again": Signal.REFUSAL}.get(kind) or Signal(kind)
        report = Report(signal, reason="x", began=began, again=kind == "again", probe=snapshot.state is State.HALF_OPEN)
        snapshot = breaker.record(snapshot=snapshot, policy=POLICY, report=report, now=now, limit=5).snapshot
        if signal is Signal.REFUSAL:
            refused = refused or now
        elif signal is Signal.SUCCESS and refused is not None and began > refused:
            assert snapshot.passed_at is not None
            assert snapshot.passed_at > refused
            refused = None
        if refused is not None:
            assert snapshot.passed_at is None or snapshot.passed_at <= refused
            assert snapshot.refusals


@pytest.mark.parametrize(
    ("snapshot", "quiet"),
    [
        (Snapshot(), True),
        (Snapshot(ramp=1), False),
        (Snapshot(suspects=((1, 1, 1),)), False),
        (Snapshot(refusals=1), False),
        (Snapshot(state=State.OPEN), False),
        (Snapshot(passed_at=NOW, buckets=((0, 1, 0),)), True),
    ],
)
def test_where_it_is_quiet_a_success_changes_nothing(snapshot, quiet):
    assert snapshot.ignores_success is quiet
    if quiet:
        assert recorded(snapshot, success(began=NOW)) == snapshot
