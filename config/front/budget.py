"""The memory budget: bytes of bodies and answers, over all connections of a process.

Used in the event loop only, so without locks.
"""

from collections.abc import Callable


class Budget:
    """A limit of bytes. When it is exceeded, the largest reservation is evicted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._reservations: set[Reservation] = set()

    def open(self) -> "Reservation":
        """Return an empty reservation. The caller has to `close` it."""
        reservation = Reservation(self)
        self._reservations.add(reservation)
        return reservation

    def _make_room(self) -> None:
        """Evict reservations until the limit is kept."""
        # The largest first, so that small requests are never evicted by large ones.
        while self.used > self.limit:
            evictable = [one for one in self._reservations if one.on_evict is not None]
            if not evictable:
                return  # the rest is being answered by threads, and ends by its own limits
            max(evictable, key=lambda one: one.held)._evict()


class Reservation:
    """The bytes of one request. With `on_evict` set, it may be evicted, and the function is called then."""

    __slots__ = ("_budget", "evicted", "held", "on_evict")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0
        self.evicted = False
        self.on_evict: Callable[[], object] | None = None

    def take(self, count: int) -> None:
        """Add bytes. This may evict other reservations, or this one."""
        self.held += count
        self._budget.used += count
        if self._budget.used > self._budget.limit:
            self._budget._make_room()

    def close(self) -> None:
        """Release all bytes."""
        self._budget.used -= self.held
        self.held = 0
        self.on_evict = None
        self._budget._reservations.discard(self)

    def _evict(self) -> None:
        callback, self.evicted = self.on_evict, True
        self.close()  # before the callback, which may add to the budget again
        if callback is not None:
            callback()
