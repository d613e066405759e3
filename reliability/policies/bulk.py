"""Decides the next step of a bulk operation: go on, send the canary, wait for replays to end, stop, or finish."""

import enum
from dataclasses import dataclass

# A failure rate is computed over at least this many: one failure among the first few says little.
MINIMUM_SAMPLE = 10


class Step(enum.StrEnum):
    """The next step."""

    GO = "go"
    CANARY = "canary"
    WAIT = "wait"
    STOP = "stop"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Progress:
    """An operation's progress. `done` were queued; `exhausted`: none is left to queue."""

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
    """`canary`: send one first. `stop_failure_rate` (0 to 1): stop if a larger share of ended replays failed."""

    canary: bool = False
    stop_failure_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """The next step, and the reason if it is the last."""

    step: Step
    note: str = ""


def next_step(*, progress: Progress, rules: Rules) -> Next:
    """Decide the next step."""
    if progress.exhausted and not progress.under_way:
        return Next(Step.FINISH, summary(progress))
    if reason := _stopped(progress, rules):
        return Next(Step.STOP, reason)
    # A canary that was withdrawn before it was sent proves nothing: another one is sent then.
    if rules.canary and not progress.recovered:
        return Next(Step.WAIT if progress.under_way or progress.exhausted else Step.CANARY)
    return Next(Step.WAIT if progress.exhausted else Step.GO)


def _stopped(progress: Progress, rules: Rules) -> str:
    """Return why the operation must stop; empty if it need not."""
    if rules.canary and progress.failed and not progress.recovered:
        return "The canary failed; the rest were not sent."
    ended = progress.recovered + progress.failed
    limit = rules.stop_failure_rate
    if limit is None or progress.failed <= limit * max(ended, min(MINIMUM_SAMPLE, progress.matched)):
        return ""
    return f"{progress.failed:,} of {ended:,} that ended failed again: more than {limit:.0%}."


def summary(progress: Progress) -> str:
    """Return one line on how the replays ended."""
    parts = [f"{progress.recovered:,} recovered", f"{progress.failed:,} failed again"]
    if progress.withdrawn:
        parts.append(f"{progress.withdrawn:,} withdrawn")
    return ", ".join(parts) + "."


def seconds(*, count: int, rate_per_second: float) -> float:
    """Return how long it takes to queue `count` replays, in seconds."""
    return count / rate_per_second
