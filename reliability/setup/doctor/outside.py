"""What is not ours: n8n, its REST API and its webhooks, and Stripe."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from django.conf import settings

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
    """Whether n8n answers, is ready, and has our time."""
    root = n8n_client.api_url().removesuffix("/api/v1")
    answer = transport.call(method="GET", url=f"{root}/healthz/readiness", headers={}, timeout=TIMEOUT)
    if answer.reply is None:
        text = f"n8n does not answer at {root}: {answer.failure} ({answer.detail})."
        yield failure(text, "See that n8n runs, and that N8N_WEBHOOK_URL (or N8N_API_URL) is right.")
        return
    reply = answer.reply
    if reply.status >= 500 or "starting up" in reply.body:
        yield failure(f"n8n is not ready ({reply.status}).", "Wait until it has started, or see its database and log.")
    elif reply.status >= 400:
        yield warning(
            f"Something answers at {root}, but not as n8n does ({reply.status}).",
            "See N8N_WEBHOOK_URL and N8N_API_URL, and the proxy in front of n8n.",
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
    """Whether the key is good, and n8n has a published webhook for each workflow that is not paused."""
    if not n8n_client.is_configured():
        yield skipped("N8N_API_KEY is not set: whether n8n has the workflows' webhooks cannot be told.")
        return
    try:
        offers = {webhook_path.decode(one.path): one for one in n8n_sync.webhooks()}
    except Unauthorised as error:
        yield failure(error.detail, f"Make a key in n8n's settings, with {SCOPES}.")
        return
    except N8nError as error:
        yield failure(error.detail, "See that n8n runs, and that N8N_API_URL is right.")
        return
    yield ok("n8n accepts N8N_API_KEY.")
    wanted = [one for one in Workflow.objects.filter(paused=False).order_by("slug") if not one.is_demo]
    called = [(one, offers.get(webhook_path.decode(one.path.strip("/")))) for one in wanted]
    found = [problem for one, offer in called if (problem := _webhook(one, offer)) is not None]
    yield from found
    if not found:
        yield ok(f"n8n has a published webhook for each of {len(wanted)} workflows.")


def _webhook(one: Workflow, offer: n8n_sync.Webhook | None) -> Finding | None:
    if offer is None:
        text = f"n8n has no webhook '{one.path}' that takes a POST, which '{one.slug}' calls."
        return failure(text, "Correct the workflow's path (manage.py n8n_sync shows n8n's webhooks), or pause it.")
    if "not published" in offer.notes:
        return failure(
            f"'{one.slug}' calls '{one.path}', which is not published in n8n.", "Publish it in n8n, or pause it."
        )
    return None


def stripe() -> Iterator[Finding]:
    """Whether each endpoint has a secret, and each API key is accepted and of the endpoint's mode."""
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
            text = f"The endpoint '{one.slug}' has no active secret: it refuses everything."
            yield failure(text, f"manage.py stripe_endpoint {one.slug} --add-secret, or turn it off.")
        else:
            yield ok(f"The endpoint '{one.slug}' has a secret.")
    modes = {one.slug: one.mode for one in rows}
    for slug, key in keys.items():
        yield _key(slug, key, modes.get(slug, StripeMode.ANY))


def _key(slug: str, key: str, mode: str) -> Finding:
    """Ask for one event, which is what the key is for."""
    import stripe as library

    given = StripeMode.LIVE if "_live_" in key[:9] else StripeMode.TEST
    if mode not in (StripeMode.ANY, given):
        text = f"The API key of '{slug}' is for {given} mode, the endpoint for {mode}."
        return warning(text, "Give it a key of its own mode.")
    http = library.RequestsClient(timeout=TIMEOUT)
    client = library.StripeClient(
        key, base_addresses={"api": settings.STRIPE_API_URL}, max_network_retries=0, http_client=http
    )
    try:
        client.v1.events.list({"limit": 1})
    except (library.AuthenticationError, library.PermissionError) as error:
        said = error.user_message or type(error).__name__
        advice = "Make a restricted key that may read events, and set STRIPE_API_KEY or the endpoint's own."
        return failure(f"Stripe does not accept the API key of '{slug}': {said}", advice)
    except library.StripeError as error:
        return failure(
            f"Stripe does not answer: {type(error).__name__}.", "See that this machine reaches Stripe's API."
        )
    return ok(f"Stripe accepts the API key of '{slug}', in {given} mode.")


CHECKS = (
    Check("n8n", n8n, needs_database=False),
    Check("webhooks", webhooks),
    Check("stripe", stripe),
)
