"""Repeatable random values: the demo depends only on a seed and on `now`."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from reliability.models.ids import demo_id

T = TypeVar("T")
# Traffic of each hour of the day (UTC), as a share of the busiest hour.
HOURS = (
    *(0.25, 0.2, 0.2, 0.2, 0.25, 0.35, 0.5, 0.7, 0.9, 1.0, 1.0, 0.95),
    *(0.85, 0.95, 1.0, 1.0, 0.95, 0.85, 0.7, 0.6, 0.5, 0.45, 0.4, 0.3),
)


class Rng:
    """A seeded source of ids, choices and times."""

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # demo data, no secrets

    def id(self, moment: datetime) -> UUID:
        return demo_id(moment=moment, bits=self._random.getrandbits(48))

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def share(self) -> float:
        return self._random.random()

    def happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def one_of(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def text(self, length: int) -> str:
        return "".join(self._random.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789", k=length))

    def duration(self, typical_ms: int) -> int:
        """Return a duration in milliseconds: mostly near `typical_ms`, sometimes several times that."""
        return max(3, round(typical_ms * self._random.lognormvariate(0, 0.45)))

    def arrivals(self, *, start: datetime, end: datetime, per_day: float) -> list[datetime]:
        """Return times of arrival in order; `per_day` is the number at the busiest hour's rate."""
        found: list[datetime] = []
        at = start
        while True:
            at += timedelta(days=self._random.expovariate(per_day))
            if at >= end:
                return found
            if self.happens(HOURS[at.hour] * (0.6 if at.weekday() >= 5 else 1.0)):
                found.append(at)
