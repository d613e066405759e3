"""System checks: an invalid configuration prevents the start; `check --deploy` lists what is unsafe."""

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
    """Report every environment variable with an invalid value."""
    return [
        Error(
            f"{name}: {message}",
            hint=f"Correct {'the environment variable ' if name.isidentifier() else ''}{name}.",
            id="backstop.E001",
        )
        for name, message in settings.CONFIGURATION_PROBLEMS
    ]


@register(Tags.database)
def database(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> Sequence[CheckMessage]:
    """Report a database that cannot be used, such as one with an encoding other than UTF-8."""
    found = []
    for alias in databases or ():
        try:
            with roles.within(roles.INTAKE):
                connections[alias].ensure_connection()
        except NotSupportedError as error:
            found.append(Error(str(error), hint="docs/database.md", id="backstop.E002"))
        except DatabaseError:
            pass  # an unreachable database may be back later
    return found


def must_be_usable() -> None:
    """Raise `CommandError` for a database that cannot be used; not for an unreachable one."""
    for found in database(None, [DEFAULT_DB_ALIAS]):
        raise CommandError(found.msg)


@register(Tags.security, deploy=True)
def deployment(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """Report what is unsafe in production, in addition to Django's own checks of HTTPS, cookies and keys."""
    return [checks.Warning(message, hint=hint, id=f"backstop.W{number:03}") for number, message, hint in _unsafe()]


def _unsafe() -> Iterator[tuple[int, str, str]]:
    if settings.EMBEDDED_DATABASE:
        text = "The embedded database is for evaluation: it has no backups, and only one machine can use it."
        yield 1, text, "Set DATABASE_URL to your own PostgreSQL."
    if "*" in settings.ALLOWED_HOSTS:
        yield 2, "ALLOWED_HOSTS allows any host name.", "List the host names of the service."
    if not settings.HTTPS:
        text = "HTTPS is off: cookies and keys may be sent unencrypted."
        yield 3, text, "Terminate TLS in a proxy, and set HTTPS=true."
    if len(settings.CRON_SECRET) < SHORTEST_SECRET:
        what = "is short" if settings.CRON_SECRET else "is not set, so every ping of a cron job is refused"
        yield 4, f"CRON_SECRET {what}.", f"Set it to at least {SHORTEST_SECRET} random characters."
    if not getattr(settings, "METRICS_TOKEN", "set elsewhere"):
        text = "METRICS_TOKEN is not set: everyone who can reach /metrics can read workflow names and figures."
        yield 5, text, "Set METRICS_TOKEN, and configure it in Prometheus as a bearer token."
    if os.environ.get("ADMIN_PASSWORD"):
        text = "ADMIN_PASSWORD is still in the environment."
        yield 6, text, "It is only for the first operator. Remove it, and change that operator's password."
    for name in ("N8N_WEBHOOK_URL", "N8N_API_URL"):
        if _is_unencrypted(getattr(settings, name)):
            text = f"{name} is plain http to another machine: payloads and keys are sent unencrypted."
            yield 7, text, f"Use https in {name}. On a private network that you trust, silence this check."
    yield from _unsafe_server()


def _unsafe_server() -> Iterator[tuple[int, str, str]]:
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        text = "TRUSTED_PROXIES is 0, but TLS ends at a proxy: every request has the proxy's address, so that failed"
        text += " sign-ins of anybody can lock out an operator whose name is known."
        yield 8, text, "Set TRUSTED_PROXIES to the number of proxies in front. Each must append to X-Forwarded-For."
    if (too_few := sockets.shortage()) is not None:
        yield 9, too_few, "Raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or lower WEB_MAX_CONNECTIONS."


def _is_unencrypted(address: str) -> bool:
    """Whether a URL is plain http, and neither to this machine nor to a name without a dot (a container network)."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return "." in host
