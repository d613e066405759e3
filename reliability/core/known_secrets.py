"""The secrets that Backstop knows itself: they are removed from replies and error texts before those are stored."""

import base64
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import connection

from reliability.models import Workflow
from reliability.models.fields import decrypted
from reliability.models.workflow import AUTHENTICATION
from reliability.policies.redaction import Redactor

SETTINGS = ("N8N_API_KEY", "STRIPE_API_KEY", "CRON_SECRET", "METRICS_TOKEN", "SECRET_KEY", "EMAIL_HOST_PASSWORD")
ADDRESSES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")
TABLE = Workflow._meta.db_table
HAS_SECRET = f"FROM {TABLE} WHERE auth_value <> '' OR signing_secret <> ''"
VERSION = f"SELECT count(*), sum(hashtextextended(auth_value || ' ' || signing_secret, 0)) {HAS_SECRET}"
SECRETS = f"SELECT auth_value, signing_secret {HAS_SECRET}"


class Authenticated(Protocol):
    """The secrets that a request carries: those of a workflow, or of a claimed delivery."""

    @property
    def authentication(self) -> Mapping[str, str]: ...
    @property
    def signing_secret(self) -> str: ...
    @property
    def url(self) -> str: ...


def redactor_of(claim: Authenticated) -> Redactor:
    """Return the redactor for an attempt: its own secrets and those of the environment."""
    return _redactor((*claim.authentication.values(), claim.signing_secret), claim.url, _setting_secrets())


def redactor(workflow: Workflow | None = None) -> Redactor:
    """Return the redactor for the secrets of the environment and of `workflow`, if given."""
    if workflow is None:
        return _redactor((), "", _setting_secrets())
    secrets = (*workflow.authentication.values(), workflow.signing_secret)
    return _redactor(secrets, workflow.url, _setting_secrets())


def redactor_of_all() -> Redactor:
    """Return the redactor for the secrets of the environment and of every workflow.

    For text that may come from any workflow. It is cached until a secret changes; one statement compares hashes, so the
    secrets themselves are not read and decrypted each time.
    """
    with connection.cursor() as cursor:
        cursor.execute(VERSION)
        version = cursor.fetchone()
    named = tuple(sorted(value for name, value in os.environ.items() if name.startswith(AUTHENTICATION)))
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return _redactor_of_all(version, (named, keys), settings.N8N_WEBHOOK_URL, _setting_secrets())


@lru_cache(maxsize=1)
def _redactor_of_all(_version: Any, environment: Any, url: str, common: tuple[str, ...]) -> Redactor:
    """Read every workflow's secrets. One that no key decrypts is never sent, so it is left out."""
    # The version is read before the secrets. A secret that changes in between is read here already, and leads to
    # another version at the next call; the other order could cache old secrets under a new version. An old version
    # never comes back, since no two encrypted texts are equal.
    with connection.cursor() as cursor:
        cursor.execute(SECRETS)
        kept = {decrypted(value) or "" for row in cursor.fetchall() for value in row if value}
    return Redactor([*kept, *environment[0], *_with_proxy_passwords(url, common)])


def _setting_secrets() -> tuple[str, ...]:
    named = [str(getattr(settings, name, "") or "") for name in SETTINGS]
    return (*named, *settings.STRIPE_WEBHOOK_SECRETS)


@lru_cache(maxsize=512)
def _redactor(own: tuple[str, ...], url: str, common: tuple[str, ...]) -> Redactor:
    return Redactor([one for one in (*own, *_with_proxy_passwords(url, common)) if one])


def _with_proxy_passwords(url: str, common: tuple[str, ...]) -> list[str]:
    """Return `common` with the passwords in `url` and in the addresses of proxies."""
    found = [one for one in common if one]
    for address in (url, *(os.environ.get(name, "") for name in ADDRESSES)):
        found += _address_secrets(address)
    return found


def _address_secrets(address: str) -> list[str]:
    """Return the password in an address, and the header value that Basic authentication makes of it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return []
    if not parts.password:
        return []
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
    return [unquote(parts.password), f"Basic {base64.b64encode(pair.encode()).decode()}"]
