"""Looks up the addresses of database hosts within a time limit, which the C library's resolver does not have."""

import ipaddress
import time
from collections.abc import Iterator
from typing import Any

from psycopg import OperationalError

from config import resolver


def resolved(options: dict[str, Any], *, by: float) -> dict[str, Any]:
    """Return connection options with the addresses of their hosts, looked up by the moment `by` (monotonic).

    Raises `OperationalError` where no host is known by then.
    """
    hosts = str(options.get("host") or "").split(",")
    if options.get("hostaddr") or not any(map(_is_name, hosts)):
        return options
    ports = str(options.get("port") or "5432").split(",")
    ports = ports if len(ports) == len(hosts) else [ports[0]] * len(hosts)
    found: list[tuple[str, str, str]] = []
    for index, (name, number) in enumerate(zip(hosts, ports, strict=True)):
        # An equal share of the time for each host, so that a name without an answer leaves time for the others.
        found += _rows(name, number, max(0.0, by - time.monotonic()) / (len(hosts) - index))
    if not found:
        raise OperationalError("The name of the database host could not be resolved.")
    host, hostaddr, port = (",".join(column) for column in zip(*found, strict=True))
    return {**options, "host": host, "hostaddr": hostaddr, "port": port}


def _rows(host: str, port: str, within: float) -> Iterator[tuple[str, str, str]]:
    """Yield (host, address, port) for each address of a host; a path of a Unix socket has none."""
    if not _is_name(host):
        yield host, "" if host.startswith("/") else host, port
        return
    try:
        addresses = resolver.resolve(host, int(port or 5432), within=within)
    except (OSError, UnicodeError):
        return  # libpq tries the next host likewise
    yield from ((host, str(address[0]), port) for *_, address in addresses)


def _is_name(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
