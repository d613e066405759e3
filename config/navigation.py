"""The console's frame: what the sidebar leads to, for whom, with which badges; and where one is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from django.urls import reverse

CAP = 10_000
# Counted no further than the badge says, and all of them at once.
COUNTS = f"""
SELECT (SELECT count(*) FROM (SELECT 1 FROM reliability_deadletter WHERE status = 'dead' LIMIT {CAP + 1}) AS dead),
    (SELECT count(*) FROM (SELECT 1 FROM reliability_operation WHERE state = 'running' LIMIT {CAP + 1}) AS running),
    (SELECT count(*) FROM reliability_breaker WHERE state <> 'closed')
"""  # noqa: S608  # our own number
DEAD, RUNNING, NOT_CLOSED = range(3)


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of the sidebar: a model's list, shown to those who may view it; with a count, and its colour."""

    title: str
    model: str  # as in "reliability.deadletter"
    icon: str
    counted: int | None = None
    variant: str = ""


def _counts() -> tuple[int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(COUNTS)
        found: tuple[int, ...] = cursor.fetchone()
    return found


GROUPS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Operate",
        (
            Item("Dead letters", "reliability.deadletter", "inbox", DEAD, "danger"),
            Item("Bulk operations", "reliability.operation", "playlist_play", RUNNING, "info"),
            Item("Deliveries", "reliability.delivery", "send"),
        ),
    ),
    (
        "Protect",
        (
            Item("Circuit breakers", "reliability.breaker", "bolt", NOT_CLOSED, "warning"),
            Item("Workflows", "reliability.workflow", "account_tree"),
            Item("Tenants", "reliability.lane", "alt_route"),
            Item("Cron jobs", "scheduling.cronjob", "schedule"),
        ),
    ),
    (
        "Stripe",
        (
            Item("Events", "reliability.stripeevent", "receipt_long"),
            Item("Endpoints", "reliability.stripeendpoint", "webhook"),
            Item("Refused requests", "reliability.striperefusal", "block"),
            Item("Claims", "reliability.stripeclaim", "lock_clock"),
        ),
    ),
    (
        "n8n",
        (
            Item("Executions", "reliability.execution", "play_circle"),
            Item("Failure reports", "reliability.failurereport", "report"),
            Item("Retries", "reliability.executionretry", "replay"),
        ),
    ),
    (
        "Admin",
        (
            Item("API keys", "reliability.apikey", "key"),
            Item("Switches", "reliability.flag", "toggle_on"),
            Item("Audit log", "reliability.auditentry", "history"),
            Item("Users", "auth.user", "person"),
            Item("Groups", "auth.group", "group"),
            Item("Failed sign-ins", "axes.accessattempt", "gpp_maybe"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups for the user who asks; a group of nothing is left out."""
    groups: list[dict[str, Any]] = []
    counts = _counts()
    for title, items in GROUPS:
        shown = [_entry(item, request, counts) for item in items if _may_view(request, item.model)]
        if title == "Operate":
            overview = reverse("admin:index")
            active = request.path == overview
            shown.insert(0, {"title": "Overview", "icon": "monitoring", "link": overview, "active": active})
        if shown:
            groups.append({"title": title, "separator": bool(groups), "collapsible": title == "Admin", "items": shown})
    return groups


def _may_view(request: HttpRequest, model: str) -> bool:
    app, _, name = model.partition(".")
    return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))


def _entry(item: Item, request: HttpRequest, counts: Sequence[int]) -> dict[str, Any]:
    link = reverse(f"admin:{item.model.replace('.', '_')}_changelist")
    entry: dict[str, Any] = {"title": item.title, "icon": item.icon, "link": link}
    entry["active"] = request.path.startswith(link)
    count = counts[item.counted] if item.counted is not None else 0
    if count:
        entry |= {"badge": f"{CAP}+" if count > CAP else str(count), "badge_variant": item.variant}
    return entry


def environment(request: HttpRequest) -> list[str] | None:
    """Return the label that tells production from staging, and its colour."""
    name = settings.ENVIRONMENT_NAME
    if not name:
        return None
    kinds = {"production": "danger", "prod": "danger", "live": "danger", "staging": "warning", "stage": "warning"}
    return [name, kinds.get(name.lower(), "info")]


def title_prefix(request: HttpRequest) -> str | None:
    """Return the same for the window's title."""
    return f"[{settings.ENVIRONMENT_NAME}]" if settings.ENVIRONMENT_NAME else None
