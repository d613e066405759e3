"""The demo's workflows, tenants, operators and failure modes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reliability.models import AttemptResult, Source

from .rng import Rng

ACME, GLOBEX, UMBRA = "demo-acme", "demo-globex", "demo-umbra"
TENANTS = (ACME, GLOBEX, UMBRA)
LEAD, OPERATOR, NIGHT = "user:demo-ada", "user:demo-grace", "user:demo-linus"
ENDPOINT = "demo-acme"
NAMES = ("Zoë Ångström", "Jürgen Weiß", "Amélie Dubois", "Ravi Patel", "Mia Chen", "Tomás Núñez", "Ola Nordmann")


@dataclass(frozen=True, slots=True)
class FailureMode:
    """One way to fail. `message` and `body` may hold `{n}`, a random number."""

    result: AttemptResult
    code: str
    message: str
    status: int | None = None
    body: str = ""
    duration_ms: int = 120
    # `final`: no retry follows. `free`: the failure spends no retry.
    final: bool = False
    free: bool = False


def _http_error(status: int, message: str, **values: Any) -> dict[str, Any]:
    body = f'{{"code":{status},"message":"{message}"}}'
    return {"status": status, "message": message, "body": body, **values}


UNKNOWN_SKU = FailureMode(AttemptResult.REJECTED, "http_422", **_http_error(422, "Unknown SKU SKU-{n}", final=True))
NO_MAIL = FailureMode(AttemptResult.REJECTED, "http_400", **_http_error(400, "customer_email is required", final=True))
TOO_LARGE = FailureMode(
    AttemptResult.REFUSED,
    "http_413",
    **_http_error(413, "Payload Too Large. Other deliveries got through: a gateway refuses this one.", final=True),
)
IN_WORKFLOW = FailureMode(AttemptResult.TRANSIENT, "http_500", **_http_error(500, "Error in workflow", duration_ms=900))
TOO_MANY = FailureMode(AttemptResult.TRANSIENT, "http_429", **_http_error(429, "Too Many Requests", duration_ms=40))
BAD_GATEWAY = FailureMode(
    AttemptResult.TRANSIENT, "http_500", **_http_error(500, "The shop's API answered: Bad Gateway")
)
NOT_THERE = FailureMode(
    AttemptResult.TRANSIENT, "http_500", **_http_error(500, "The enrichment service is down", duration_ms=2_100)
)
REFUSED = FailureMode(
    AttemptResult.INSTANCE_DOWN, "connection_refused", "n8n refused the connection.", duration_ms=2, free=True
)
RESET = FailureMode(
    AttemptResult.UNKNOWN, "connection_reset", "The connection broke off: n8n may be running it.", duration_ms=340
)
NO_ANSWER = FailureMode(
    AttemptResult.UNKNOWN, "read_timeout", "No answer in time: n8n may be running it.", duration_ms=30_000
)
HELD = FailureMode(
    AttemptResult.UNKNOWN,
    "outcome_unknown",
    "No answer in time: n8n may be running it.",
    duration_ms=30_000,
    final=True,
)
NO_REPORT = FailureMode(
    AttemptResult.CALLBACK_TIMEOUT,
    "callback_timeout",
    "The workflow did not report its end in time.",
    duration_ms=3_600_000,
)
NOT_REGISTERED = FailureMode(
    AttemptResult.MISCONFIGURED,
    "http_404_not_registered",
    'The requested webhook "POST crm-upsert" is not registered. Is the workflow published, and the path right?',
    404,
    '{"code":404,"message":"The requested webhook \\"POST crm-upsert\\" is not registered."}',
    duration_ms=12,
    free=True,
)


def _order(rng: Rng, number: int) -> dict[str, Any]:
    lines = [{"sku": f"SKU-{rng.number(1000, 9999)}", "quantity": rng.number(1, 5)} for _ in range(rng.number(1, 4))]
    customer = {"name": rng.one_of(NAMES), "email": f"customer{rng.number(1, 900)}@example.com"}
    return {"order": number, "customer": customer, "lines": lines, "total": rng.number(900, 90_000) / 100}


def _lead(rng: Rng, number: int) -> dict[str, Any]:
    return {"lead_id": number, "company": f"Example {rng.number(1, 400)} Ltd", "source": rng.one_of(("web", "fair"))}


def _contact(rng: Rng, number: int) -> dict[str, Any]:
    return {"contact": number, "name": rng.one_of(NAMES), "tags": ["newsletter"], "note": "„Grüße“ — 10 €"}


def _ticket(rng: Rng, number: int) -> dict[str, Any]:
    return {"ticket": number, "priority": rng.one_of(("low", "normal", "high")), "subject": "Where is my parcel?"}


@dataclass(frozen=True, slots=True)
class WorkflowSpec:
    """A workflow of the demo. `failures`, and `transient_failures`, which a retry recovers, have a probability each."""

    slug: str
    name: str
    tenants: tuple[str, ...]
    per_day: float = 0
    typical_ms: int = 200
    source: str = Source.API
    key: str = "order"
    payload: Callable[[Rng, int], dict[str, Any]] = _order
    failures: tuple[tuple[FailureMode, float], ...] = ()
    transient_failures: tuple[tuple[FailureMode, float], ...] = ((BAD_GATEWAY, 0.01),)
    policy: dict[str, Any] = field(default_factory=dict)


ORDERS = WorkflowSpec(
    slug="demo-order-sync",
    name="Order sync",
    tenants=TENANTS,
    per_day=520,
    failures=((UNKNOWN_SKU, 0.008), (NO_MAIL, 0.003), (IN_WORKFLOW, 0.003)),
    transient_failures=((BAD_GATEWAY, 0.012), (NO_ANSWER, 0.002)),
    policy={"concurrency_limit": 8, "max_retries": 4},
)
LEADS = WorkflowSpec(
    slug="demo-lead-enrich",
    name="Lead enrichment",
    tenants=(ACME, GLOBEX),
    per_day=120,
    typical_ms=2_400,
    key="lead",
    payload=_lead,
    failures=((NO_ANSWER, 0.008), (TOO_MANY, 0.004)),
    transient_failures=((TOO_MANY, 0.05), (NO_ANSWER, 0.01)),
    policy={"rate_limit_per_minute": 60, "timeout_ms": 30_000, "circuit_breaker_threshold": 10},
)
CONTACTS = WorkflowSpec(
    slug="demo-crm-upsert",
    name="CRM upsert",
    tenants=(ACME, UMBRA),
    per_day=90,
    typical_ms=420,
    key="contact",
    payload=_contact,
    failures=((TOO_LARGE, 0.003),),
    policy={"skip_unchanged": False},
)
TICKETS = WorkflowSpec(
    slug="demo-ticket-triage",
    name="Ticket triage",
    tenants=(UMBRA,),
    per_day=70,
    typical_ms=6_500,
    key="ticket",
    payload=_ticket,
    failures=((NO_REPORT, 0.01),),
    policy={"completion": "callback", "callback_timeout_ms": 3_600_000, "max_retries": 1},
)
PAYOUTS = WorkflowSpec(
    slug="demo-payout-check",
    name="Payout check",
    tenants=(GLOBEX,),
    per_day=25,
    typical_ms=1_500,
    key="payout",
    failures=((HELD, 0.04),),
    policy={"on_unknown_outcome": "hold", "max_retries": 2, "timeout_ms": 30_000},
)
INVOICES = WorkflowSpec(
    slug="demo-invoice-mail",
    name="Invoice mail",
    tenants=(ACME,),
    source=Source.STRIPE,
    typical_ms=650,
    failures=((IN_WORKFLOW, 0.02),),
    policy={"stripe_events": ["invoice.*", "charge.refunded"]},
)
REPORT = WorkflowSpec("demo-nightly-report", "Nightly report", (ACME,), source=Source.CRON, typical_ms=14_000)
GAPS = WorkflowSpec("demo-gap-fill", "Gap fill", (ACME,), source=Source.CRON, typical_ms=900)
EXPORT = WorkflowSpec(
    slug="demo-legacy-export",
    name="Legacy export",
    tenants=(ACME,),
    per_day=12,
    typical_ms=3_100,
    key="export",
    failures=((IN_WORKFLOW, 0.03),),
    policy={"max_retries": 1},
)
WORKFLOWS = (ORDERS, LEADS, CONTACTS, TICKETS, PAYOUTS, INVOICES, REPORT, GAPS, EXPORT)
