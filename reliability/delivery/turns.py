"""A dispatcher's turns at lanes, and the messages that reach it."""

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from reliability.lanes.messages import Sent


@dataclass(slots=True)
class Turn:
    """A lane in this process's care. `busy` counts rounds in a row that claimed something, `idle` looks in vain.

    `needs_barrier`: other transactions may still rely on the wake-up that began the turn. `one_by_one`: attempts are
    settled one by one, since a row of some is locked. `blocked`: a lock keeps an expired lease from being settled.
    """

    lane_id: int
    future: "Future[None]"
    ends_at: float
    in_flight: int = 0
    unsettled: list[Sent] = field(default_factory=list)
    busy: int = 0
    idle: int = 0
    rechecked: bool = False
    failures: int = 0
    fallback_at: datetime | None = None
    needs_barrier: bool = True
    one_by_one: bool = False
    blocked: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the lane is in this process's hands."""
        return not self.in_flight and not self.unsettled


@dataclass(frozen=True, slots=True)
class ProcessLane:
    """Take a lane into care; the future ends with the turn."""

    lane_id: int
    future: "Future[None]"


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt has ended; without `sent`, by an error of our own."""

    lane_id: int
    sent: Sent | None


class LockedLanes:
    """Which lanes were found locked, how often in a row, and whether a lock is worth waiting for now.

    Waiting for one lane's lock holds up all others. So a wait in vain is followed by tries that wait for nothing, at
    growing distances; but a lane that is hardly ever free gets its turn only by queueing for the lock, so after
    `EVERY` such tries it may wait again.
    """

    FIRST, LAST = 0.02, 1.0
    # Seconds between two waits in vain, of whichever lanes: so they take a tenth of the dispatcher's time at the most.
    SPACING = 1.0
    EVERY = 4

    def __init__(self) -> None:
        self._tries: dict[int, int] = {}
        self._next_wait = 0.0

    def may_wait(self, lane_id: int, *, now: float) -> bool:
        """Whether to wait a moment for the lane's lock."""
        return now >= self._next_wait and self._tries.get(lane_id, 0) % self.EVERY == 0

    def failed(self, lane_id: int, *, waited: bool, now: float) -> float:
        """Note a try in vain; return in how many seconds to try again."""
        tries = self._tries[lane_id] = self._tries.get(lane_id, 0) + 1
        if waited:
            self._next_wait = now + self.SPACING
        return float(min(self.LAST, self.FIRST * 2 ** min(tries - 1, 8)))

    def tries(self, lane_id: int) -> int:
        """Return how many tries in a row were in vain."""
        return self._tries.get(lane_id, 0)

    def clear(self, lane_id: int) -> None:
        """Note that the lane is locked no more, or is no more."""
        self._tries.pop(lane_id, None)


def resolve(future: "Future[None]", error: Exception | None = None) -> None:
    """End a future, which the engine may have cancelled meanwhile."""
    with suppress(InvalidStateError):
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
