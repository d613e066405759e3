"""The size of housekeeping batches and the pause between them, from how long the last batch took."""

# How long a batch should take: for that time it holds its locks and loads the disk.
TARGET_SECONDS = 0.1
SMALLEST, FIRST, LARGEST = 20, 200, 5000


def next_size(*, size: int, seconds: float) -> int:
    """Return the next batch's size for `TARGET_SECONDS`, between half and twice the last one."""
    wanted = size * TARGET_SECONDS / max(seconds, 0.001)
    return int(min(max(wanted, size / 2, SMALLEST), size * 2, LARGEST))


def pause(*, seconds: float, load: float) -> float:
    """Return the pause in seconds after a batch of `seconds`, so that work is the share `load` (0 to 1) of all time."""
    return seconds * (1 / load - 1)
