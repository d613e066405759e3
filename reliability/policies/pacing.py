"""How large a batch of housekeeping may be, and how long to rest after it, from how long the last one took."""

# A batch holds its locks, and the disk's attention, for about so long.
TARGET_SECONDS = 0.1
SMALLEST, FIRST, LARGEST = 20, 200, 5000


def next_size(*, size: int, seconds: float) -> int:
    """Return the next batch's size: such that it takes `TARGET_SECONDS`; at most twice, at least half the last."""
    wanted = size * TARGET_SECONDS / max(seconds, 0.001)
    return int(min(max(wanted, size / 2, SMALLEST), size * 2, LARGEST))


def pause(*, seconds: float, load: float) -> float:
    """Return the seconds to rest after a batch of so many, so that work is the share `load` (0 to 1) of all time."""
    return seconds * (1 / load - 1)
