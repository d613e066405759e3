"""What the server does not set on its sockets: it has no limit for a client that reads nothing."""

import fcntl
import logging
import os
import resource
import socket
import stat
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from django.conf import settings

DESCRIPTORS = Path("/proc/self/fd")
# The descriptors that a process needs beside its connections: its own, and a thread's for the database and files.
OTHERS, PER_THREAD = 64, 4

logger = logging.getLogger(__name__)


def allow_connections() -> None:
    """Let this process have as many descriptors as it may: each connection takes one. Warn where they are too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (text := shortage()) is not None:
        logger.warning(text)


def connections() -> int:
    """Return how many connections a process takes: `WEB_MAX_CONNECTIONS`, or as many as it has descriptors for.

    A server that has none left does not wait: it tries to accept over and over.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return settings.WEB_MAX_CONNECTIONS
    return max(1, min(settings.WEB_MAX_CONNECTIONS, hard - OTHERS - PER_THREAD * settings.WEB_THREADS))


def shortage() -> str | None:
    """Say that descriptors are too few for `WEB_MAX_CONNECTIONS`, if they are."""
    allowed, wanted = connections(), settings.WEB_MAX_CONNECTIONS
    if allowed == wanted:
        return None
    return f"The limit of open files is too low for WEB_MAX_CONNECTIONS={wanted}: it allows {allowed:,} connections."


def limit_unread(seconds: float) -> None:
    """Have the kernel end connections whose client has taken nothing of what was sent to it for so long.

    New connections inherit it from the socket that listens. It bounds what no program sees: bytes that are written, in
    the kernel's buffer.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    for one in _sockets():
        with suppress(OSError), one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and one.family != socket.AF_UNIX:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def cut(*, client: tuple[str, str], port: int) -> None:
    """End the connection of a client to our `port`, whatever the server still wants to write to it."""
    wanted = (client[0], int(client[1]))
    for one in _sockets():
        with suppress(OSError), one:
            if one.family == socket.AF_UNIX or one.getsockname()[1] != port:
                continue
            if one.getpeername()[:2] == wanted:
                one.shutdown(socket.SHUT_RDWR)
                return


def ports() -> set[int]:
    """Return the ports at which this process listens."""
    found = set()
    for one in _sockets():
        with suppress(OSError), one:
            if one.family != socket.AF_UNIX and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(int(one.getsockname()[1]))
    return found


def quiet(*, ports: set[int]) -> set[tuple[str, int]]:
    """Return the clients at `ports` that have taken all that was written to them."""
    found = set()
    for client, one in _clients(ports):
        with suppress(OSError):
            if not _unsent(one):
                found.add(client)
    return found


def stop_reading(clients: set[tuple[str, int]], *, ports: set[int]) -> None:
    """Read no more of what these clients send to `ports`."""
    for client, one in _clients(ports):
        if client in clients:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RD)


def _clients(ports: set[int]) -> Iterator[tuple[tuple[str, int], socket.socket]]:
    for one in _sockets():
        with suppress(OSError), one:
            if one.family != socket.AF_UNIX and one.getsockname()[1] in ports:
                yield one.getpeername()[:2], one


def _unsent(one: socket.socket) -> int:
    """Return how many bytes the kernel still has to send, or to have acknowledged."""
    count = struct.pack("i", 0)
    return int(struct.unpack("i", fcntl.ioctl(one, termios.TIOCOUTQ, count))[0])


def _sockets() -> Iterator[socket.socket]:
    """Yield this process's sockets, each with a descriptor of its own, so that closing it closes nothing else."""
    try:
        open_now = list(DESCRIPTORS.iterdir())
    except OSError:
        return
    for path in open_now:
        try:
            copy = os.dup(int(path.name))
        except (OSError, ValueError):
            continue
        try:
            found = socket.socket(fileno=copy) if stat.S_ISSOCK(os.fstat(copy).st_mode) else None
        except OSError:
            found = None
        if found is None:
            os.close(copy)
        else:
            yield found
