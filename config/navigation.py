"""The console's frame: what the sidebar leads to, for whom, with which badges; and where one is."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from django.urls import reverse

CAP = 10_000
# What is wrong, in one look: dead letters, running operations, breakers that are not closed, alerts that fire; none
# counted past the cap.
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
    """An entry of the sidebar: a model's list, shown to those who may view it."""

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
            Item("Tenants", "reliability.lane", "alt_route"),
            Item("Cron jobs", "scheduling.cronjob", "schedule"),
        ),
    ),
    (
        "Watch",
        (
            Item("Alerts", "reliability.alert", "notifications"),
            Item("Quiet periods", "reliability.alertsilence", "notifications_paused"),
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
            Item("Failed sign-ins", "reliability.failedsignin", "gpp_maybe"),
        ),
    ),
)


FOLDED = ("Stripe", "n8n", "Admin")


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups for the user who asks; a group of nothing is left out."""
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
    """Return what each badge says, by the model that its entry leads to."""
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
    """Return the label that tells production from staging, and its colour."""
    name = settings.ENVIRONMENT_NAME
    if not name:
        return None
    kinds = {"production": "danger", "prod": "danger", "live": "danger", "staging": "warning", "stage": "warning"}
    return [name, kinds.get(name.lower(), "info")]


def title_prefix(request: HttpRequest) -> str | None:
    """Return the same for the window's title."""
    return f"[{settings.ENVIRONMENT_NAME}]" if settings.ENVIRONMENT_NAME else None
