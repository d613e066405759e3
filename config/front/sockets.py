"""What the server does not set on its sockets: it has no limit for a client that reads nothing."""

import logging
import os
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")

logger = logging.getLogger(__name__)


def allow_connections() -> None:
    """Let this process have as many descriptors as it may: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
