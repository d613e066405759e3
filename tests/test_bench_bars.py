"""The bars of the benchmarks: relative to the machine's speed in the same run."""

import pytest

from bench.bars import BARS, MACHINE_INDEPENDENT, SPEEDS, lines

# Sizes, counts and ratios, in runs without a time or a rate.
PLAIN = {"ratio", "repeats", "ratio_full", "repeats_full", "over_limit", "unfinished", "kills", *MACHINE_INDEPENDENT}


@pytest.mark.parametrize("name", BARS)
def test_every_bar_of_a_time_or_a_rate_is_relative_to_the_yardstick(name):
    bar = BARS[name]
    speeds = set(bar.bars) - PLAIN
    assert bool(speeds) == bool(bar.speed), f"{name}: {speeds or bar.speed}"
    assert bar.speed in {"", *SPEEDS}


@pytest.mark.parametrize(("figure", "rate"), [("latency", False), ("batches", True)])
def test_a_machine_of_half_the_speed_passes_the_same_bars(figure, rate):
    fast = {"rate": 6000.0} if rate else {"median": 7.0, "p99": 12.0}
    slow = {name: value / 2 if rate else value * 2 for name, value in fast.items()}
    on_fast, on_slow = (list(lines(figure, found, yardstick=unit)) for found, unit in ((fast, 2.4), (slow, 4.8)))
    assert [(one.figure, one.met) for one in on_fast] == [(one.figure, one.met) for one in on_slow]
    assert all(one.met for one in on_slow)
    assert not all(
        one.met
        for one in lines(figure, slow if rate else {name: 99 * value for name, value in slow.items()}, yardstick=1.2)
    )
