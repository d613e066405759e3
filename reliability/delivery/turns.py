"""A dispatcher's state per lane, and the messages that reach it."""

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from reliability.lanes.messages import Sent


@dataclass(slots=True)
class Turn:
    """A lane's turn in this process, until `ends_at` (monotonic). `unsettled` are its finished attempts.

    `busy` counts rounds in a row that claimed or settled something, `idle` checks without a result; `rechecked`: a
    busy lane was checked once more before its release. `fallback_at`: when a wake-up checks the lane if this worker
    dies.

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
        """Whether no attempt of the lane is in flight or unsettled in this process."""
        return not self.in_flight and not self.unsettled


@dataclass(frozen=True, slots=True)
class ProcessLane:
    """Message: begin or extend a lane's turn. The future ends with the turn."""

    lane_id: int
    future: "Future[None]"


@dataclass(frozen=True, slots=True)
class Finished:
    """Message: an attempt has ended; `sent` is `None` after an unexpected error."""

    lane_id: int
    sent: Sent | None


class LockedLanes:
    """Which lanes were found locked, how often in a row, and whether to wait for a lane's lock now."""

    # Waiting for one lane's lock delays all other lanes. So a wait that timed out is followed by tries that do not
    # wait, with growing pauses. But a lane that is rarely free is only reached by queueing for its lock, so after
    # `EVERY` such tries it may wait again.

    FIRST, LAST = 0.02, 1.0
    # Seconds between two waits that time out, of all lanes together: they take a tenth of the dispatcher's time at
    # most.
    SPACING = 1.0
    EVERY = 4

    def __init__(self) -> None:
        self._tries: dict[int, int] = {}
        self._next_wait = 0.0

    def may_wait(self, lane_id: int, *, now: float) -> bool:
        """Whether to wait for the lane's lock this time."""
        return now >= self._next_wait and self._tries.get(lane_id, 0) % self.EVERY == 0

    def failed(self, lane_id: int, *, waited: bool, now: float) -> float:
        """Record a failed try; return the seconds until the next one."""
        tries = self._tries[lane_id] = self._tries.get(lane_id, 0) + 1
        if waited:
            self._next_wait = now + self.SPACING
        return float(min(self.LAST, self.FIRST * 2 ** min(tries - 1, 8)))

    def tries(self, lane_id: int) -> int:
        """Return how many tries in a row have failed."""
        return self._tries.get(lane_id, 0)

    def clear(self, lane_id: int) -> None:
        """Forget a lane that could be locked, or was deleted."""
        self._tries.pop(lane_id, None)


def resolve(future: "Future[None]", error: Exception | None = None) -> None:
    """Complete a future, unless the engine has cancelled it."""
    with suppress(InvalidStateError):
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
