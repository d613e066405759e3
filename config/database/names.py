"""Looks up the addresses of database hosts within a time limit, which the C library's resolver does not have."""

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from psycopg import OperationalError

Answer = list[str] | OSError

# Who waits for which look-up that is under way.
_asked: dict[tuple[str, str], "list[queue.SimpleQueue[Answer]]"] = {}
_lock = threading.Lock()


def resolved(options: dict[str, Any], *, by: float) -> dict[str, Any]:
    """Return connection options with the addresses of their hosts, looked up by the moment `by` (monotonic).

    Raises `OperationalError` where no host is known by then.
    """
    hosts = str(options.get("host") or "").split(",")
    if options.get("hostaddr") or not any(map(_is_name, hosts)):
        return options
    ports = str(options.get("port") or "5432").split(",")
    ports = ports if len(ports) == len(hosts) else [ports[0]] * len(hosts)
    found = [row for host, port in zip(hosts, ports, strict=True) for row in _rows(host, port, by)]
    if not found:
        raise OperationalError("The address of the database's host could not be looked up.")
    host, hostaddr, port = (",".join(column) for column in zip(*found, strict=True))
    return {**options, "host": host, "hostaddr": hostaddr, "port": port}


def _rows(host: str, port: str, by: float) -> Iterator[tuple[str, str, str]]:
    """Yield (host, address, port) for each address of a host; a path of a Unix socket has none."""
    if not _is_name(host):
        yield host, "" if host.startswith("/") else host, port
        return
    answer = _look_up(host, port, by)
    if isinstance(answer, list):
        yield from ((host, address, port) for address in answer)


def _is_name(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _look_up(host: str, port: str, by: float) -> Answer:
    """Ask the resolver in a thread that nobody waits for beyond `by`; one look-up serves all who ask meanwhile."""
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    with _lock:
        waiting = _asked.setdefault((host, port), [])
        waiting.append(answers)
        if len(waiting) == 1:
            threading.Thread(target=_ask, args=(host, port), daemon=True, name="resolver").start()
    try:
        return answers.get(timeout=max(0.0, by - time.monotonic()))
    except queue.Empty:
        return TimeoutError()


def _ask(host: str, port: str) -> None:
    answer: Answer
    try:
        found = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP, type=socket.SOCK_STREAM)
        answer = [str(one[4][0]) for one in found]
    except OSError as error:
        answer = error
    with _lock:
        waiting = _asked.pop((host, port))
    for one in waiting:
        one.put(answer)
