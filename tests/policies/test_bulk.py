"""What a bulk operation does next, as a table of cases."""

import pytest

from reliability.policies.bulk import Progress, Rules, Step, next_step, seconds

ALL_OUT = {"exhausted": True}


@pytest.mark.parametrize(
    ("progress", "rules", "step"),
    [
        (Progress(matched=100), Rules(), Step.GO),
        (Progress(matched=100, done=50, failed=50), Rules(), Step.GO),
        (Progress(matched=100, done=100, recovered=99, **ALL_OUT), Rules(), Step.WAIT),
        (Progress(matched=100, done=100, recovered=50, failed=50, **ALL_OUT), Rules(), Step.FINISH),
        (Progress(matched=0, **ALL_OUT), Rules(canary=True), Step.FINISH),
        # One first: it is out, it failed, it recovered, it was called off before it was sent.
        (Progress(matched=100), Rules(canary=True), Step.CANARY),
        (Progress(matched=100, done=1), Rules(canary=True), Step.WAIT),
        (Progress(matched=100, done=1, failed=1), Rules(canary=True), Step.STOP),
        (Progress(matched=100, done=1, recovered=1), Rules(canary=True), Step.GO),
        (Progress(matched=100, done=1, withdrawn=1), Rules(canary=True), Step.CANARY),
        (Progress(matched=1, done=1, **ALL_OUT), Rules(canary=True), Step.WAIT),
        (Progress(matched=1, done=1, failed=1, **ALL_OUT), Rules(canary=True), Step.FINISH),
        # It had recovered, and n8n reported its failure later.
        (Progress(matched=100, done=9, failed=1), Rules(canary=True), Step.STOP),
        # A fifth may fail: of ten at least, so that the first failure does not stop it; 0 stops at the first.
        (Progress(matched=100, done=9, failed=2), Rules(stop_failure_rate=0.2), Step.GO),
        (Progress(matched=100, done=9, failed=3), Rules(stop_failure_rate=0.2), Step.STOP),
        (Progress(matched=100, done=50, recovered=40, failed=10), Rules(stop_failure_rate=0.2), Step.GO),
        (Progress(matched=100, done=50, recovered=39, failed=11), Rules(stop_failure_rate=0.2), Step.STOP),
        (Progress(matched=100, done=50, failed=1), Rules(stop_failure_rate=0), Step.STOP),
        (Progress(matched=100, done=50, failed=50), Rules(stop_failure_rate=1), Step.GO),
        (Progress(matched=4, done=4, failed=3), Rules(stop_failure_rate=0.5), Step.STOP),
        (Progress(matched=4, done=4, failed=2), Rules(stop_failure_rate=0.5), Step.GO),
        # What is out when none is left can still be stopped; what has ended is done.
        (Progress(matched=20, done=20, failed=11, **ALL_OUT), Rules(stop_failure_rate=0.5), Step.STOP),
        (Progress(matched=20, done=20, failed=20, **ALL_OUT), Rules(stop_failure_rate=0.5), Step.FINISH),
    ],
)
def test_what_comes_next(progress, rules, step):
    assert next_step(progress=progress, rules=rules).step is step


def test_an_end_says_why():
    stopped = next_step(
        progress=Progress(matched=100, done=50, recovered=39, failed=11), rules=Rules(stop_failure_rate=0.2)
    )
    assert stopped.note == "11 of 50 that ended failed again: more than 20%."
    done = Progress(matched=3000, done=3000, recovered=2990, failed=8, withdrawn=2, exhausted=True)
    assert next_step(progress=done, rules=Rules()).note == "2,990 recovered, 8 failed again, 2 withdrawn."


def test_the_time_it_takes():
    assert seconds(count=100, rate_per_second=5) == 20
