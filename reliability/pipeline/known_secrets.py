"""The secrets that Backstop itself knows, which must be in nothing that it stores of what others say."""

import base64
import os
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from django.conf import settings

from reliability.models import Workflow
from reliability.policies.redaction import Redactor

from .messages import Claim

SETTINGS = ("N8N_API_KEY", "STRIPE_API_KEY", "CRON_SECRET", "METRICS_TOKEN", "SECRET_KEY", "EMAIL_HOST_PASSWORD")
ADDRESSES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


def redactor_of(claim: Claim) -> Redactor:
    """Return what hides the secrets that went out with an attempt, and those of the environment."""
    return _redactor((*claim.authentication.values(), claim.signing_secret), claim.url, _of_settings())


def redactor(workflow: Workflow | None = None) -> Redactor:
    """Return what hides the secrets of the environment, and of `workflow`."""
    if workflow is None:
        return _redactor((), "", _of_settings())
    secrets = (*workflow.authentication.values(), workflow.signing_secret)
    return _redactor(secrets, workflow.url, _of_settings())


def redactor_of_all() -> Redactor:
    """Return what hides the secrets of the environment and of every workflow, for what may come from any of them."""
    found: set[str] = set()
    for workflow in Workflow.objects.only("slug", "auth_header", "auth_value", "signing_secret"):
        found |= {*workflow.authentication.values(), workflow.signing_secret}
    return _redactor(tuple(sorted(found)), settings.N8N_WEBHOOK_URL, _of_settings())


def _of_settings() -> tuple[str, ...]:
    named = [str(getattr(settings, name, "") or "") for name in SETTINGS]
    return (*named, *settings.STRIPE_WEBHOOK_SECRETS)


@lru_cache(maxsize=512)
def _redactor(own: tuple[str, ...], url: str, common: tuple[str, ...]) -> Redactor:
    found = [one for one in (*own, *common) if one]
    for address in (url, *(os.environ.get(name, "") for name in ADDRESSES)):
        found += _of_address(address)
    return Redactor(found)


def _of_address(address: str) -> list[str]:
    """Return the password in an address, and what Basic makes of it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return []
    if not parts.password:
        return []
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
    return [unquote(parts.password), f"Basic {base64.b64encode(pair.encode()).decode()}"]
