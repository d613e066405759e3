"""Latencies counted by bucket: into which one a value falls, and what a share of them lies below."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence


def count(*, values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Return how many values each bucket holds. A bucket ends with its edge; one more holds what is above the last."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    return counts


def quantile(*, counts: Sequence[int], edges: Sequence[float], share: float) -> float | None:
    """Return the value that `share` (0 to 1) of those counted do not exceed, or `None` where nothing was counted.

    Within a bucket its values are taken as evenly spread; of what is above the last edge only that edge is known.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0
    for place, found in enumerate(counts[: len(edges)]):
        if found and below + found >= rank:
            start = edges[place - 1] if place else 0.0
            return start + (edges[place] - start) * (rank - below) / found
        below += found
    return float(edges[-1])
