"""What a bulk operation does next: hand over more, one first, wait for replays to end, stop, or be done."""

import enum
from dataclasses import dataclass

# One failure among the first few says little of a share: it counts as though this many had ended.
MINIMUM_SAMPLE = 10


class Step(enum.StrEnum):
    """What comes next."""

    GO = "go"
    CANARY = "canary"
    WAIT = "wait"
    STOP = "stop"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Progress:
    """How an operation stands. `done` were handed over; `exhausted` says that none is left to be."""

    matched: int
    done: int = 0
    recovered: int = 0
    failed: int = 0
    withdrawn: int = 0
    exhausted: bool = False

    @property
    def under_way(self) -> int:
        return max(0, self.done - self.recovered - self.failed - self.withdrawn)


@dataclass(frozen=True, slots=True)
class Rules:
    """With `canary` one goes first; above `stop_failure_rate` (0 to 1) of those that ended, failures stop it."""

    canary: bool = False
    stop_failure_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """What comes next, and, where it is the end, why."""

    step: Step
    note: str = ""


def next_step(*, progress: Progress, rules: Rules) -> Next:
    """Decide what comes next. One that was withdrawn before it was sent proves nothing: another goes first then."""
    if progress.exhausted and not progress.under_way:
        return Next(Step.FINISH, summary(progress))
    if reason := _stopped(progress, rules):
        return Next(Step.STOP, reason)
    if rules.canary and not progress.recovered:
        return Next(Step.WAIT if progress.under_way or progress.exhausted else Step.CANARY)
    return Next(Step.WAIT if progress.exhausted else Step.GO)


def _stopped(progress: Progress, rules: Rules) -> str:
    """Return why it must stop, if it must."""
    if rules.canary and progress.failed and not progress.recovered:
        return "The one that went first failed again."
    ended = progress.recovered + progress.failed
    limit = rules.stop_failure_rate
    if limit is None or progress.failed <= limit * max(ended, min(MINIMUM_SAMPLE, progress.matched)):
        return ""
    return f"{progress.failed:,} of {ended:,} that ended failed again: more than {limit:.0%}."


def summary(progress: Progress) -> str:
    """Say in one line how the replays ended."""
    parts = [f"{progress.recovered:,} recovered", f"{progress.failed:,} failed again"]
    if progress.withdrawn:
        parts.append(f"{progress.withdrawn:,} withdrawn")
    return ", ".join(parts) + "."


def seconds(*, count: int, rate_per_second: float) -> float:
    """Return how long it takes to hand over so many."""
    return count / rate_per_second
