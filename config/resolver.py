"""Resolves host names within a time limit.

The system's resolver cannot be interrupted, and may hang for minutes. So each lookup runs in a thread of its own,
which all callers that resolve the same host at the same time share. A host whose lookups hang has a few such threads at
most, and delays no lookup of another host.
"""

import socket
import threading
import time
from dataclasses import dataclass, field

# After this many seconds a lookup counts as stuck, and the next caller starts another.
STUCK = 5.0
# How many lookups of one host may be stuck at once.
STUCK_LIMIT = 3

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]


class NameTimeout(socket.gaierror):
    """The name was not resolved in time."""


@dataclass(slots=True)
class _Lookup:
    began: float
    done: threading.Event = field(default_factory=threading.Event)
    found: list[Address] = field(default_factory=list)
    error: OSError | UnicodeError | None = None


_lock = threading.Lock()
_running: dict[tuple[str, int], list[_Lookup]] = {}


def resolve(host: str, port: int, *, within: float) -> list[Address]:
    """Return the addresses of `host`, waiting for at most `within` seconds. Raises `socket.gaierror`, `NameTimeout`."""
    try:
        return _ask(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # it is a name
    lookup = _lookup((host, port))
    if not lookup.done.wait(within):
        raise NameTimeout(socket.EAI_AGAIN, f"no answer from the resolver within {within:.0f} s")
    if lookup.error is not None:
        raise lookup.error
    return lookup.found


def _lookup(key: tuple[str, int]) -> _Lookup:
    """Join a lookup that runs, or start one."""
    with _lock:
        running = _running.setdefault(key, [])
        recent = running and time.monotonic() - running[-1].began < STUCK
        if recent or len(running) >= STUCK_LIMIT:
            return running[-1]
        lookup = _Lookup(time.monotonic())
        running.append(lookup)
    threading.Thread(target=_run, args=(key, lookup), name=f"resolve {key[0]}", daemon=True).start()
    return lookup


def _run(key: tuple[str, int], lookup: _Lookup) -> None:
    try:
        lookup.found = _ask(*key, 0)
    except (OSError, UnicodeError) as error:
        lookup.error = error
    finally:
        with _lock:
            _running[key].remove(lookup)
            if not _running[key]:
                del _running[key]
        lookup.done.set()


def _ask(host: str, port: int, flags: int) -> list[Address]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)  # type: ignore[return-value]
