"""Checks of external services: n8n, its REST API and webhooks, and Stripe."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from django.conf import settings

from reliability.formats.counts import counted
from reliability.models import DEFAULT_ENDPOINT, StripeEndpoint, StripeMode, Workflow
from reliability.n8n import client as n8n_client
from reliability.n8n import sync as n8n_sync
from reliability.n8n.client import N8nError, Unauthorised
from reliability.policies import webhook_path
from reliability.transport import client as transport

from .findings import Check, Finding, failure, ok, skipped, warning
from .service import skew

TIMEOUT = 4.0
SCOPES = "execution:read, execution:list, execution:retry and workflow:list"


def n8n() -> Iterator[Finding]:
    """Check that n8n answers, is ready, and has the same time."""
    root = n8n_client.api_url().removesuffix("/api/v1")
    answer = transport.call(method="GET", url=f"{root}/healthz/readiness", headers={}, timeout=TIMEOUT)
    if answer.reply is None:
        text = f"n8n does not answer at {root}: {answer.failure} ({answer.detail})."
        yield failure(text, "Check that n8n runs, and that N8N_WEBHOOK_URL (or N8N_API_URL) is correct.")
        return
    reply = answer.reply
    if reply.status >= 500 or "starting up" in reply.body:
        yield failure(
            f"n8n is not ready (HTTP {reply.status}).", "Wait until it has started, or check its database and its log."
        )
    elif reply.status >= 400:
        yield warning(
            f"A server answers at {root}, but not like n8n (HTTP {reply.status}).",
            "Check N8N_WEBHOOK_URL and N8N_API_URL, and the proxy in front of n8n.",
        )
    else:
        yield ok(f"n8n answers at {root}.")
    if moment := _date(reply.headers.get("date", "")):
        yield skew(moment - datetime.now(UTC), "n8n's")


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def webhooks() -> Iterator[Finding]:
    """Check that the API key is valid, and that n8n has a published webhook for each workflow that is not paused."""
    if not n8n_client.is_configured():
        yield skipped("N8N_API_KEY is not set, so the workflows' webhooks are not checked.")
        return
    try:
        offers = {webhook_path.decode(one.path): one for one in n8n_sync.webhooks()}
    except Unauthorised as error:
        yield failure(error.detail, f"Create an API key in n8n's settings, with the scopes {SCOPES}.")
        return
    except N8nError as error:
        yield failure(error.detail, "Check that n8n runs, and that N8N_API_URL is correct.")
        return
    yield ok("n8n accepts N8N_API_KEY.")
    active = [one for one in Workflow.objects.filter(paused=False).order_by("slug") if not one.is_demo]
    called = [(one, offers.get(webhook_path.decode(one.path.strip("/")))) for one in active]
    found = [problem for one, offer in called if (problem := _webhook(one, offer)) is not None]
    yield from found
    if not found:
        yield ok(f"n8n has a published webhook for {counted(len(active), 'active workflow')}.")


def _webhook(one: Workflow, offer: n8n_sync.Webhook | None) -> Finding | None:
    if offer is None:
        text = f"The workflow '{one.slug}' calls the webhook 'POST {one.path}', which n8n does not have."
        return failure(text, "Correct the workflow's path (./manage.py n8n_sync lists n8n's webhooks), or pause it.")
    if "not published" in offer.notes:
        return failure(
            f"The workflow '{one.slug}' calls '{one.path}', which is not published in n8n.",
            "Publish it in n8n, or pause it.",
        )
    return None


def stripe() -> Iterator[Finding]:
    """Check that each endpoint has a secret, and that each API key is valid and for the endpoint's mode."""
    rows = list(StripeEndpoint.objects.filter(enabled=True).prefetch_related("secrets").order_by("slug"))
    keys = {one.slug: str(one.api_key) for one in rows if one.api_key}
    if settings.STRIPE_API_KEY:
        keys.setdefault(DEFAULT_ENDPOINT, settings.STRIPE_API_KEY)
    if not rows and not keys and not settings.STRIPE_WEBHOOK_SECRETS:
        yield skipped("Stripe is not set up.")
        return
    for one in rows:
        given = one.slug == DEFAULT_ENDPOINT and bool(settings.STRIPE_WEBHOOK_SECRETS)
        if not given and not any(secret.active for secret in one.secrets.all()):
            text = f"The Stripe endpoint '{one.slug}' has no active secret, so it refuses every event."
            yield failure(
                text, f"Add one: ./manage.py stripe_endpoint {one.slug} --add-secret. Or turn the endpoint off."
            )
        else:
            yield ok(f"The Stripe endpoint '{one.slug}' has a secret.")
    modes = {one.slug: one.mode for one in rows}
    for slug, key in keys.items():
        yield _key(slug, key, modes.get(slug, StripeMode.ANY))


def _key(slug: str, key: str, mode: str) -> Finding:
    """List one event: the permission that the key needs."""
    import stripe as library

    given = StripeMode.LIVE if "_live_" in key[:9] else StripeMode.TEST
    if mode not in (StripeMode.ANY, given):
        text = f"The API key of the Stripe endpoint '{slug}' is for {given} mode, but the endpoint is for {mode} mode."
        return warning(text, "Set an API key of the endpoint's mode.")
    http = library.RequestsClient(timeout=TIMEOUT)
    client = library.StripeClient(
        key, base_addresses={"api": settings.STRIPE_API_URL}, max_network_retries=0, http_client=http
    )
    try:
        client.v1.events.list({"limit": 1})
    except (library.AuthenticationError, library.PermissionError) as error:
        said = error.user_message or type(error).__name__
        advice = "Create a restricted key that can read events, and set it as STRIPE_API_KEY or as the endpoint's key."
        return failure(f"Stripe does not accept the API key of '{slug}': {said}", advice)
    except library.StripeError as error:
        return failure(
            f"Stripe does not answer: {type(error).__name__}.", "Check that this machine can reach Stripe's API."
        )
    return ok(f"Stripe accepts the API key of the endpoint '{slug}' ({given} mode).")


CHECKS = (
    Check("n8n", n8n, needs_database=False),
    Check("webhooks", webhooks),
    Check("stripe", stripe),
)
