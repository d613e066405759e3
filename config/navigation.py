"""The console's sidebar: its entries, who sees them, and their badges; and the environment's label."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from django.urls import reverse

CAP = 10_000
# Dead letters, running operations, breakers that are not closed, and firing alerts, in one query. Each count stops at
# the cap, because every page of the console runs it.
BADGES = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM reliability_deadletter WHERE status = 'dead' LIMIT %(most)s) AS dead),
    (SELECT count(*) FROM (SELECT 1 FROM reliability_operation WHERE state = 'running' LIMIT %(most)s) AS running),
    (SELECT count(*) FROM (SELECT 1 FROM reliability_breaker WHERE state <> 'closed' LIMIT %(most)s) AS open),
    (SELECT count(*) FROM (SELECT 1 FROM reliability_alert WHERE state = 'firing' LIMIT %(most)s) AS firing)
"""
VARIANTS = {
    "reliability.deadletter": "danger",
    "reliability.operation": "info",
    "reliability.breaker": "warning",
    "reliability.alert": "danger",
}


@dataclass(frozen=True, slots=True)
class Item:
    """A sidebar entry: a link to a model's list, shown to users who may view it."""

    title: str
    model: str  # as in "reliability.deadletter"
    icon: str


GROUPS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Operate",
        (
            Item("Dead letters", "reliability.deadletter", "inbox"),
            Item("Bulk operations", "reliability.operation", "playlist_play"),
            Item("Deliveries", "reliability.delivery", "send"),
            Item("Archives", "reliability.archive", "inventory_2"),
        ),
    ),
    (
        "Protect",
        (
            Item("Circuit breakers", "reliability.breaker", "bolt"),
            Item("Workflows", "reliability.workflow", "account_tree"),
            Item("Lanes", "reliability.lane", "alt_route"),
            Item("Cron jobs", "scheduling.cronjob", "schedule"),
        ),
    ),
    (
        "Watch",
        (
            Item("Alerts", "reliability.alert", "notifications"),
            Item("Silences", "reliability.alertsilence", "notifications_paused"),
            Item("Notices", "reliability.alertnotice", "outgoing_mail"),
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
            Item("Execution retries", "reliability.executionretry", "replay"),
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
            Item("Failed sign-ins", "reliability.failedsignin", "gpp_maybe"),
        ),
    ),
)


FOLDED = ("Stripe", "n8n", "Admin")


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups for the user; empty groups are left out."""
    badges, groups = _badges(), list[dict[str, Any]]()
    for title, items in GROUPS:
        shown = [_entry(item, request, badges) for item in items if _may_view(request, item.model)]
        if title == "Operate":
            overview = reverse("admin:index")
            active = request.path == overview
            shown.insert(0, {"title": "Overview", "icon": "monitoring", "link": overview, "active": active})
        if shown:
            groups.append({"title": title, "separator": bool(groups), "collapsible": title in FOLDED, "items": shown})
    return groups


def _may_view(request: HttpRequest, model: str) -> bool:
    app, _, name = model.partition(".")
    return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))


def _badges() -> dict[str, str]:
    """Return each badge's text by model."""
    with connection.cursor() as cursor:
        cursor.execute(BADGES, {"most": CAP + 1})
        counts = cursor.fetchone() or ()
    shown = [f"{CAP}+" if count > CAP else str(count) for count in counts]
    return {model: text for model, text in zip(VARIANTS, shown, strict=True) if text != "0"}


def _entry(item: Item, request: HttpRequest, badges: dict[str, str]) -> dict[str, Any]:
    link = reverse(f"admin:{item.model.replace('.', '_')}_changelist")
    entry: dict[str, Any] = {"title": item.title, "icon": item.icon, "link": link}
    entry["active"] = request.path.startswith(link)
    if item.model in badges:
        entry |= {"badge": badges[item.model], "badge_variant": VARIANTS[item.model]}
    return entry


def environment(request: HttpRequest) -> list[str] | None:
    """Return the environment's label, such as "production", and its colour."""
    name = settings.ENVIRONMENT_NAME
    if not name:
        return None
    kinds = {"production": "danger", "prod": "danger", "live": "danger", "staging": "warning", "stage": "warning"}
    return [name, kinds.get(name.lower(), "info")]


def title_prefix(request: HttpRequest) -> str | None:
    """Return the environment's label for the page title."""
    return f"[{settings.ENVIRONMENT_NAME}]" if settings.ENVIRONMENT_NAME else None
