"""Socket options and actions that the server does not offer: it has no limit for a client that reads nothing."""

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

# The server does not expose its sockets, so they are found among this process's open descriptors.
DESCRIPTORS = Path("/proc/self/fd")
# Descriptors that a process needs besides its connections: its own, and per thread for the database and files.
OTHERS, PER_THREAD = 64, 4

logger = logging.getLogger(__name__)


def allow_connections() -> None:
    """Raise this process's limit of open files to the hard limit, and log a warning if that is too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (text := shortage()) is not None:
        logger.warning(text)


def connections() -> int:
    """Return how many connections a process accepts: `WEB_MAX_CONNECTIONS`, or fewer if descriptors are too few."""
    # A server without free descriptors does not wait: it calls accept in a loop, which takes a whole CPU.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return settings.WEB_MAX_CONNECTIONS
    return max(1, min(settings.WEB_MAX_CONNECTIONS, hard - OTHERS - PER_THREAD * settings.WEB_THREADS))


def shortage() -> str | None:
    """Return a warning if descriptors are too few for `WEB_MAX_CONNECTIONS`, else `None`."""
    allowed, wanted = connections(), settings.WEB_MAX_CONNECTIONS
    if allowed == wanted:
        return None
    return f"The limit of open files is too low for WEB_MAX_CONNECTIONS={wanted}: it allows {allowed:,} connections."


def limit_unread(seconds: float) -> None:
    """Have the kernel end connections whose client has acknowledged nothing for `seconds` (`TCP_USER_TIMEOUT`)."""
    # Bytes in the kernel's buffer are out of the server's sight. New connections inherit the option from the listening
    # socket.
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    for one in _sockets():
        with suppress(OSError), one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and one.family != socket.AF_UNIX:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def shut(*, client: tuple[str, str], port: int) -> None:
    """Shut down the connection of a client to our `port`, even if the server still writes to it."""
    wanted = (client[0], int(client[1]))
    for one in _sockets():
        with suppress(OSError), one:
            if one.family == socket.AF_UNIX or one.getsockname()[1] != port:
                continue
            if one.getpeername()[:2] == wanted:
                one.shutdown(socket.SHUT_RDWR)
                return


def ports() -> set[int]:
    """Return the ports on which this process listens."""
    found = set()
    for one in _sockets():
        with suppress(OSError), one:
            if one.family != socket.AF_UNIX and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(int(one.getsockname()[1]))
    return found


def idle_clients(*, ports: set[int]) -> set[tuple[str, int]]:
    """Return the clients of `ports` that have acknowledged everything that was written to them."""
    found = set()
    for client, one in _clients(ports):
        with suppress(OSError):
            if not _unsent(one):
                found.add(client)
    return found


def stop_reading(clients: set[tuple[str, int]], *, ports: set[int]) -> None:
    """Shut down reading on these clients' connections to `ports`."""
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
    """Return how many bytes are unsent or unacknowledged (TIOCOUTQ, tcp(7))."""
    count = struct.pack("i", 0)
    return int(struct.unpack("i", fcntl.ioctl(one, termios.TIOCOUTQ, count))[0])


def _sockets() -> Iterator[socket.socket]:
    """Yield this process's sockets. Each has a duplicated descriptor, so that closing it closes nothing else."""
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
