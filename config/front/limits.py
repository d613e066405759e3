"""The limits of the front door, as the settings name them."""

from dataclasses import dataclass

from django.conf import settings

from reliability.api.stripe import webhook

# A thread that has taken nothing for this long is stuck, and those who wait for one are told so. In seconds.
STALLED_SECONDS = 1.0
# The share of `WEB_BUFFERED_BYTES` that bodies may fill. The rest is for what is around them: connections, pieces on
# their way, the copy that is made of a complete body, and what an allocator does not give back.
BODIES_SHARE = 0.3
# What comes of a body beyond this is kept in blocks of this size: the system gets each back whole when it is let go,
# where many small pieces of many bodies would leave holes between what stays.
BLOCK = 256 * 1024
# What the server itself keeps for a connection on which such a body comes: its buffer, and pieces on their way.
CONNECTION_BYTES = 64 * 1024
# How much of a refused body is read and thrown away, so that its sender reads the answer; and for how many seconds.
DRAIN_BYTES, DRAIN_SECONDS = 256 * 1024 * 1024, 30.0
# How many such bodies are read at once. The connections of any more are closed over what they still send.
DRAINS = 64
# An answer up to this size goes out at once: the kernel takes it, whoever reads it. A larger one goes in pieces of it.
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds: see docs/proxy.md for what each is for."""

    threads: int
    body_bytes: int
    stripe_body_bytes: int
    body_seconds: float
    body_idle_seconds: float
    buffered_bytes: int
    queue_length: int
    queue_seconds: float
    send_seconds: float
    stream_seconds: float

    def body_of(self, path: str) -> int:
        """Return the largest body, in bytes, that a path takes."""
        return self.body_bytes if webhook.slug_of(path) is None else self.stripe_body_bytes


def configured() -> Limits:
    """Return what the settings say. There is room for one body of the largest size in any case."""
    largest = max(settings.MAX_BODY_BYTES, settings.STRIPE_MAX_BODY_BYTES)
    return Limits(
        threads=settings.WEB_THREADS,
        body_bytes=settings.MAX_BODY_BYTES,
        stripe_body_bytes=settings.STRIPE_MAX_BODY_BYTES,
        body_seconds=settings.WEB_BODY_SECONDS,
        body_idle_seconds=settings.WEB_BODY_IDLE_SECONDS,
        buffered_bytes=max(int(BODIES_SHARE * settings.WEB_BUFFERED_BYTES), largest + 2 * BLOCK + CONNECTION_BYTES),
        queue_length=settings.WEB_QUEUE_LENGTH,
        queue_seconds=settings.WEB_QUEUE_SECONDS,
        send_seconds=settings.WEB_SEND_SECONDS,
        stream_seconds=settings.WEB_STREAM_SECONDS,
    )
