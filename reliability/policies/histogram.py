"""Histograms of latencies: counting values by bucket, and quantiles."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence


def count(*, values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Return the count of each bucket. A bucket includes its upper edge; one more holds values above the last."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    return counts


def quantile(*, counts: Sequence[int], edges: Sequence[float], share: float) -> float | None:
    """Return the quantile `share` (0 to 1), or `None` if nothing was counted.

    Values are assumed to be evenly spread within a bucket; above the last edge, that edge is returned.
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
