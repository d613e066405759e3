"""System checks: a configuration that makes no sense stops the start; `check --deploy` says what is unsafe."""

import os
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.management import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, NotSupportedError, connections

from config.database import roles
from config.front import sockets

SHORTEST_SECRET = 24
# The tag of the checks that our commands run. Django's look at the code and load every URL: `check` and `web` run them.
CONFIGURATION = "configuration"


@register(CONFIGURATION)
def environment(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """Report every variable that could not be read or makes no sense."""
    return [
        Error(
            f"{name}: {message}",
            hint=f"Correct {'the environment variable ' if name.isidentifier() else ''}{name}.",
            id="backstop.E001",
        )
        for name, message in settings.CONFIGURATION_PROBLEMS
    ]


def _place(name: str) -> str:
    return f"the environment variable {name}" if name.isidentifier() else f"the file {name}"


@register(Tags.database)
def database(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> Sequence[CheckMessage]:
    """Report a database that cannot be used, such as one of an encoding that does not hold every text."""
    found = []
    for alias in databases or ():
        try:
            with roles.within(roles.INTAKE):
                connections[alias].ensure_connection()
        except NotSupportedError as error:
            found.append(Error(str(error), hint="docs/database.md", id="backstop.E002"))
        except DatabaseError:
            pass  # one that is away now may be there later
    return found


def must_be_usable() -> None:
    """Raise `CommandError` for a database that cannot be used; not for one that is away."""
    for found in database(None, [DEFAULT_DB_ALIAS]):
        raise CommandError(found.msg)


@register(Tags.security, deploy=True)
def deployment(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """Report what is unsafe where others reach it, beside what Django's own checks say of HTTPS, cookies and keys."""
    return [checks.Warning(message, hint=hint, id=f"backstop.W{number:03}") for number, message, hint in _unsafe()]


def _unsafe() -> Iterator[tuple[int, str, str]]:
    if settings.EMBEDDED_DATABASE:
        text = "The embedded database is for a first look: it has no backups, and one machine has it."
        yield 1, text, "Set DATABASE_URL to a PostgreSQL of your own."
    if "*" in settings.ALLOWED_HOSTS:
        yield 2, "ALLOWED_HOSTS allows any name.", "Name the hosts by which the service is reached."
    if not settings.HTTPS:
        text = "HTTPS is off: cookies and keys may travel in the clear."
        yield 3, text, "Put TLS in front, and set HTTPS=true."
    if len(settings.CRON_SECRET) < SHORTEST_SECRET:
        what = "is short" if settings.CRON_SECRET else "is not set: no cron job can be pinged"
        yield 4, f"CRON_SECRET {what}.", f"Set it to at least {SHORTEST_SECRET} random characters."
    if not getattr(settings, "METRICS_TOKEN", "set elsewhere"):
        text = "METRICS_TOKEN is not set: whoever reaches /metrics reads names of workflows and figures."
        yield 5, text, "Set METRICS_TOKEN, and give it to Prometheus as a bearer token."
    if os.environ.get("ADMIN_PASSWORD"):
        text = "ADMIN_PASSWORD is still in the environment."
        yield 6, text, "It makes the first operator only: take it away, and change that operator's password."
    for name in ("N8N_WEBHOOK_URL", "N8N_API_URL"):
        if _goes_in_the_clear(getattr(settings, name)):
            text = f"{name} is plain http to another machine: payloads and keys travel in the clear."
            yield 7, text, f"Use https in {name}, or a private network that you trust, and silence this check."
    yield from _unsafe_server()


def _unsafe_server() -> Iterator[tuple[int, str, str]]:
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        text = "TRUSTED_PROXIES is 0, yet TLS ends at a proxy: all callers seem to come from its address,"
        text += " and by failed sign-ins anybody locks out any operator whose name is known."
        yield 8, text, "Set TRUSTED_PROXIES to how many proxies are in front; each has to append to X-Forwarded-For."
    if (too_few := sockets.shortage()) is not None:
        yield 9, too_few, "Raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or lower WEB_MAX_CONNECTIONS."


def _goes_in_the_clear(address: str) -> bool:
    """Whether an address is plain http, and not to this machine or a name without a dot, as in a container network."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return "." in host
