"""The limits of the front end, from the settings."""

from dataclasses import dataclass

from django.conf import settings

from reliability.api.stripe import webhook

# Seconds. If no thread has started or ended a job for so long, all are stuck, and waiting intake requests are refused.
STALLED_SECONDS = 1.0
# The share of `WEB_BUFFERED_BYTES` for bodies. The rest is for connections, pieces in transit, the copy of a complete
# body, and memory that the allocator does not return.
BODIES_SHARE = 0.3
# Bytes. A body larger than this is stored in blocks of this size, each of which the allocator returns to the system as
# a whole. Many small pieces of many bodies would fragment the memory.
BLOCK = 256 * 1024
# Bytes that the server itself uses per connection with such a body: its buffer, and pieces in transit.
CONNECTION_BYTES = 64 * 1024
# Bytes of a refused body that are read and discarded, so that its sender reads the answer; and for how many seconds.
DRAIN_BYTES, DRAIN_SECONDS = 256 * 1024 * 1024, 30.0
# How many such bodies are drained at once. Further connections are closed with unread bytes.
DRAINS = 64
# Bytes. An answer up to this size is sent at once: the kernel's buffer takes it. A larger one is sent in pieces of it.
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits, in bytes and seconds; docs/proxy.md explains each."""

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
        """Return the largest body, in bytes, that a path accepts."""
        return self.body_bytes if webhook.slug_of(path) is None else self.stripe_body_bytes


def configured() -> Limits:
    """Return the limits from the settings. The budget has space for at least one body of the largest size."""
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
