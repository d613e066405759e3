"""The console's first page: problems, key figures, charts, failure groups, last operator actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from reliability.core import clock
from reliability.models import AuditEntry, BreakerState
from reliability.policies.error_codes import reason_label
from reliability.stats import overview
from reliability.stats.charts import Chart, Range
from reliability.stats.overview import Cards, Group, Overview
from reliability.templatetags.console import duration, relative

RANGES = {Range.HOUR: "1 hour", Range.SIX_HOURS: "6 hours", Range.DAY: "24 hours", Range.WEEK: "7 days"}
LISTS = "admin:reliability_{}_changelist"
ICONS = {"danger": "error", "warning": "warning"}
TONES = {"danger": "bad", "warning": "warn"}
BREAKER_TONES = {BreakerState.OPEN: "bad", BreakerState.FORCED_OPEN: "bad", BreakerState.HALF_OPEN: "warn"}


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure that links to its list. `strip` holds one tone per item; `share` (0 to 100) draws a progress bar."""

    title: str
    value: str
    note: str
    url: str
    tone: str = ""
    strip: Sequence[str] = ()
    share: int | None = None


def context(request: HttpRequest, values: dict[str, Any]) -> dict[str, Any]:
    """Add the page's values to the template context."""
    values |= {"title": "Overview", "may_view": request.user.has_perm("reliability.view_deadletter")}
    if values["may_view"]:
        now = clock.now()
        values |= _shown(request, overview.load(now=now, range_=_range(request)))
    return values


def _range(request: HttpRequest) -> Range:
    """Return the range in the query string; 24 hours by default."""
    wanted = request.GET.get("range", "")
    return Range(wanted) if wanted in set(Range) else Range.DAY


def _shown(request: HttpRequest, taken: Overview) -> dict[str, Any]:
    return {
        "now": taken.now,
        "notices": [
            {
                "tone": TONES[one.level],
                "icon": ICONS[one.level],
                "text": one.text,
                "url": _url(one.url_name, one.params),
            }
            for one in taken.banner
        ],
        "ranges": [{"key": str(one), "title": RANGES[one], "current": one == taken.range} for one in Range],
        "cards": _cards(taken.cards, taken.now),
        "charts": _charts(taken),
        "groups": [_group(one, may_replay=_may_replay(request)) for one in taken.groups],
        "last_delivery": _last_delivery(taken),
        "actions": [_action(one) for one in taken.actions],
        "running": bool(taken.cards.operations),
    }


def _url(name: str, params: dict[str, str] | None = None) -> str:
    where = reverse(name)
    return f"{where}?{urlencode(params)}" if params else where


def _last_delivery(taken: Overview) -> str:
    at = taken.last_delivered_at
    return f"Last delivery {relative(at=at, now=taken.now)}." if at else "No delivery yet."


def _action(entry: AuditEntry) -> dict[str, Any]:
    """Describe an action in words; the kind of target is added if the action's name does not contain it."""
    names = {model._meta.model_name: str(model._meta.verbose_name) for model in apps.get_models()}
    verb, kind = entry.action.replace("_", " "), names.get(entry.target_type, entry.target_type)
    what = verb if kind.lower() in verb else f"{verb} {kind}"
    return {"what": what, **{name: getattr(entry, name) for name in ("at", "actor", "count", "reason")}}


# --- Cards ------------------------------------------------------------------------------------------------
def _cards(cards: Cards, now: datetime) -> list[Card]:
    return [
        _dead(cards, now),
        _success(cards),
        _backlog(cards, now),
        _breakers(cards, now),
        _paused(cards),
        _stripe(cards, now),
        _cron(cards),
        *_operations(cards),
    ]


def _dead(cards: Cards, now: datetime) -> Card:
    dead = cards.dead
    oldest = f"oldest {relative(at=dead.oldest_at, now=now)}, " if dead.oldest_at else ""
    note = f"{oldest}{dead.died:,} new (previous period: {dead.died_before:,})"
    url = _url(LISTS.format("deadletter"), {"status__exact": "dead"})
    return Card("Dead letters", f"{dead.count:,}", note, url, tone="bad" if dead.count else "good")


def _success(cards: Cards) -> Card:
    rate = cards.success
    value = "–" if rate is None else "100 %" if rate == 1 else f"{min(rate * 100, 99.9):.1f} %"
    tone = "" if rate is None else "good" if rate >= 0.99 else "warn" if rate >= 0.9 else "bad"
    note = f"{cards.delivered:,} delivered, {cards.failed:,} failed"
    return Card("Success rate", value, note, _url(LISTS.format("delivery")), tone=tone)


def _backlog(cards: Cards, now: datetime) -> Card:
    backlog = cards.backlog
    value = f"{overview.CAP:,}+" if backlog.is_capped else f"{backlog.count:,}"
    age = backlog.age(now=now)
    note = (
        "no deliveries"
        if not backlog.count
        else f"the oldest has been due for {duration(age)}"
        if age
        else "none due yet"
    )
    url = _url(LISTS.format("delivery"), {"state__exact": "pending"})
    return Card("Waiting", value, note, url, tone="warn" if age.total_seconds() > 300 else "")


def _breakers(cards: Cards, now: datetime) -> Card:
    url = _url(LISTS.format("breaker"))
    if not cards.breakers:
        return Card("Circuit breakers", "All closed", "no traffic is held back", url, tone="good")
    names = [f"{one.name} {one.state.replace('_', ' ')}" for one in cards.breakers]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    strip = [BREAKER_TONES[BreakerState(one.state)] for one in cards.breakers[:20]]
    tone = "bad" if "bad" in strip else "warn"
    return Card("Circuit breakers", f"{len(names)} not closed", f"{', '.join(names[:3])}{more}", url, tone, strip)


def _paused(cards: Cards) -> Card:
    url = _url(LISTS.format("workflow"), {"paused__exact": "1"} if cards.paused else None)
    names = ", ".join(one.workflow for one in cards.paused[:3])
    more = f" and {len(cards.paused) - 3} more" if len(cards.paused) > 3 else ""
    tone = "warn" if cards.paused else ""
    return Card("Paused workflows", str(len(cards.paused)), f"{names}{more}" or "none", url, tone=tone)


def _stripe(cards: Cards, now: datetime) -> Card:
    stripe = cards.stripe
    value = relative(at=stripe.last_event_at, now=now) if stripe.last_event_at else "No event yet"
    if stripe.refused:
        note = f"{stripe.refused:,} refused in the last hour"
        return Card("Stripe", value, note, _url(LISTS.format("striperefusal")), tone="warn")
    return Card("Stripe", value, "last event; none refused", _url(LISTS.format("stripeevent")))


def _cron(cards: Cards) -> Card:
    url = reverse("admin:scheduling_cronjob_changelist")
    if not cards.cron:
        return Card("Cron jobs", "On time", "all on schedule", url, tone="good")
    names = ", ".join(f"{one.job} {one.state}" for one in cards.cron[:3])
    more = f" and {len(cards.cron) - 3} more" if len(cards.cron) > 3 else ""
    verb = "needs" if len(cards.cron) == 1 else "need"
    return Card("Cron jobs", f"{len(cards.cron)} {verb} attention", f"{names}{more}", url, tone="bad")


def _operations(cards: Cards) -> list[Card]:
    shown = []
    for one in cards.operations[:2]:
        url = _page_of("admin:reliability_operation_page", one.id)
        share = round(100 * one.done / one.matched) if one.matched else 0
        note = str(one.state)
        title = f"Bulk {one.kind}"
        shown.append(Card(title, f"{one.done:,} / {one.matched:,}", note, url, share=min(share, 100)))
    return shown


def _page_of(name: str, pk: object) -> str:
    try:
        return reverse(name, args=[pk])
    except NoReverseMatch:
        return _url(LISTS.format("operation"))


# --- Charts, each with a table that says the same ----------------------------------------------------------
def _charts(taken: Overview) -> list[dict[str, Any]]:
    series, last = taken.series, _last_delivery(taken)
    return [
        _chart("chart-dead", "New dead letters by reason", series.deaths, "bar", "", f"No dead letters. {last}"),
        _chart(
            "chart-ended",
            "Delivered and failed",
            series.outcomes,
            "line",
            "",
            f"No deliveries finished in this range. {last}",
        ),
        _chart(
            "chart-latency",
            "Time to deliver",
            series.latency,
            "line",
            "ms",
            f"Nothing was delivered in this range. {last}",
        ),
    ]


def _chart(name: str, title: str, chart: Chart, kind: str, unit: str, empty: str) -> dict[str, Any]:
    if chart.is_empty:
        return {"id": name, "title": title, "empty": empty}
    day = len(chart.labels) > 1 and chart.labels[-1] - chart.labels[0] > chart.labels[1] - chart.labels[0]
    pattern = "%d %b %H:%M" if day and chart.labels[0].date() != chart.labels[-1].date() else "%H:%M"
    labels = [at.astimezone(UTC).strftime(pattern) for at in chart.labels]
    tones = {"delivered": "good", "dead": "bad"}
    datasets = [
        {"label": f"{one.label} {unit}".strip(), "data": list(one.values), "tone": tones.get(one.key, "")}
        for one in chart.datasets
    ]
    data = {"labels": labels, "datasets": datasets, "type": kind, "stacked": kind == "bar", "unit": unit}
    rows = [
        (label, values)
        for label, *values in reversed(list(zip(labels, *(one.values for one in chart.datasets), strict=True)))
        if any(values)
    ]
    return {"id": name, "title": title, "data": data, "rows": rows, "empty": ""}


# --- Failure groups ---------------------------------------------------------------------------------------
def _may_replay(request: HttpRequest) -> bool:
    return request.user.has_perm("reliability.replay_deadletter")


def _group(group: Group, *, may_replay: bool) -> dict[str, Any]:
    chosen = {"status__exact": "dead", "workflow": group.slug, "fingerprint": group.fingerprint}
    reason = reason_label(group.reason) or group.reason or "Unknown"
    says_more = {*group.code.split("_")} != {*group.reason.split("_")}
    code = f" · {group.code.removeprefix('http_')}" if group.code and says_more else ""
    return {
        **{name: getattr(group, name) for name in ("workflow", "message", "count", "first_at", "last_at")},
        "reason": f"{reason}{code}",
        "open_url": _url(LISTS.format("deadletter"), chosen),
        "replay_url": _replay_url(chosen) if may_replay else "",
    }


def _replay_url(chosen: dict[str, str]) -> str:
    try:
        return _url("admin:reliability_bulk_replay", chosen)
    except NoReverseMatch:
        return ""
