"""How many bytes of bodies and answers are in memory, over all connections.

Used in the event loop only, hence without locks.
"""

from collections.abc import Callable


class Budget:
    """A limit of bytes. Whoever holds the most of them gives way where there is no room for more."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._reservations: set[Reservation] = set()

    def open(self) -> "Reservation":
        """Return a reservation of no bytes yet; `close` it."""
        reservation = Reservation(self)
        self._reservations.add(reservation)
        return reservation

    def _make_room(self) -> None:
        """Evict until the limit is kept. The largest first: who holds little is never evicted by who holds much."""
        while self.used > self.limit:
            evictable = [one for one in self._reservations if one.on_evict is not None]
            if not evictable:
                return  # what is left is being worked on, and ends by its own limits
            max(evictable, key=lambda one: one.held)._evict()


class Reservation:
    """The bytes of one request. `on_evict` is called where they have to go; without it they stay."""

    __slots__ = ("_budget", "evicted", "held", "on_evict")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0
        self.evicted = False
        self.on_evict: Callable[[], object] | None = None

    def take(self, count: int) -> None:
        """Count bytes in. Others may be evicted by this, or this one."""
        self.held += count
        self._budget.used += count
        if self._budget.used > self._budget.limit:
            self._budget._make_room()

    def close(self) -> None:
        """Give back all bytes."""
        self._budget.used -= self.held
        self.held = 0
        self.on_evict = None
        self._budget._reservations.discard(self)

    def _evict(self) -> None:
        tell, self.evicted = self.on_evict, True
        self.close()
        if tell is not None:
            tell()
