"""The console's frame: what the sidebar leads to, for whom, with which badges; and where one is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

CAP = 10_000
Badge = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of the sidebar: a model's list, shown to those who may view it."""

    title: str
    model: str  # as in "reliability.deadletter"
    icon: str
    badge: Callable[[], Badge] | None = None


def _dead() -> Badge:
    from reliability.models import DeadLetter, DeadLetterStatus

    return _counted(DeadLetter.objects.filter(status=DeadLetterStatus.DEAD), "danger")


def _running() -> Badge:
    from reliability.models import Operation, OperationState

    return _counted(Operation.objects.filter(state=OperationState.RUNNING), "info")


def _not_closed() -> Badge:
    from reliability.models import Breaker, BreakerState

    return _counted(Breaker.objects.exclude(state=BreakerState.CLOSED), "warning")


def _counted(rows: Any, variant: str) -> Badge:
    count = rows.order_by()[: CAP + 1].count()
    return (f"{CAP}+" if count > CAP else str(count), variant) if count else None


GROUPS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Operate",
        (
            Item("Dead letters", "reliability.deadletter", "inbox", _dead),
            Item("Bulk operations", "reliability.operation", "playlist_play", _running),
            Item("Deliveries", "reliability.delivery", "send"),
        ),
    ),
    (
        "Protect",
        (
            Item("Circuit breakers", "reliability.breaker", "bolt", _not_closed),
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
    for title, items in GROUPS:
        shown = [_entry(item, request) for item in items if _may_view(request, item.model)]
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


def _entry(item: Item, request: HttpRequest) -> dict[str, Any]:
    link = reverse(f"admin:{item.model.replace('.', '_')}_changelist")
    entry: dict[str, Any] = {"title": item.title, "icon": item.icon, "link": link}
    entry["active"] = request.path.startswith(link)
    badge = item.badge() if item.badge else None
    if badge:
        entry |= {"badge": badge[0], "badge_variant": badge[1]}
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
