"""Tags that all pages of the console use: times, states, ids with a copy button, JSON."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django import template
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from reliability.core import clock
from reliability.formats import json_text
from reliability.models import AttemptResult, BreakerState, DeliveryState, ReportState, RetryState

register = template.Library()

TONES = {
    "bad": "dead open forced_open failed stopped missing failing rejected misconfigured error crashed refused revoked "
    "misconfigured_locally reported_failed critical firing",
    "warn": "half_open paused late overlapping transient unknown instance_down interrupted callback_timeout waiting "
    "expired stale looking_up warning",
    "busy": "pending sending awaiting_callback replaying running processing asked new",
    "good": "delivered recovered closed done ok success succeeded processed accepted joined active on enabled "
    "verified run resolved sent",
}
_TONE_OF = {value: tone for tone, values in TONES.items() for value in values.split()}
# The words for states come from the models' choices, so that each state is named the same everywhere. Without an entry
# (states of several models share a badge), a value is shown as it is.
_LABELS = {"ok": "OK"} | {
    str(value): str(label)
    for states in (BreakerState, DeliveryState, AttemptResult, ReportState, RetryState)
    for value, label in states.choices
}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@register.simple_tag
def moment(at: datetime | None, never: str = "—", now: datetime | None = None) -> SafeString:
    """Show a relative time, with the exact UTC time on hover. A list passes `now`, so that the clock is read once."""
    if at is None:
        return format_html('<span class="bs-none">{}</span>', never)
    exact = at.astimezone(UTC)
    words = relative(at=at, now=now or clock.now())
    return format_html(
        '<time class="bs-moment" datetime="{}" title="{}">{}</time>',
        *(exact.isoformat(), f"{exact:%Y-%m-%d %H:%M:%S} UTC", words),
    )


@register.filter
def duration(seconds: float | timedelta | None) -> str:
    """Return a duration in its two largest units: `2 d 3 h`, `14 min`, `12 s`. Takes seconds or a timedelta."""
    if seconds is None:
        return ""
    left = int(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        parts.append((count, unit))
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    wanted = parts[first : first + (2 if first < 2 else 1)]  # seconds beside minutes are noise
    return " ".join(f"{count} {unit}" for count, unit in wanted if count or wanted[0] == (count, unit))


def relative(*, at: datetime, now: datetime) -> str:
    """Return `23 min ago` or `in 5 min`."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


@register.simple_tag
def status_badge(value: Any, label: str = "", tone: str = "") -> SafeString:
    """Show a state as a word and a colour. `tone` (bad, warn, busy, good, off) is otherwise known by the value."""
    word = str(value)
    if not word:
        return SafeString("")
    words = label or _LABELS.get(word) or word.replace("_", " ").capitalize()
    return format_html('<span class="bs-badge bs-{}">{}</span>', tone or _TONE_OF.get(word, "off"), words)


@register.simple_tag
def copyable(text: Any, shown: str = "", name: str = "") -> SafeString:
    """Show a text with a copy button. `shown` is displayed in its place; `name` is the button's label."""
    if text in (None, ""):
        return SafeString("")
    value = str(text)
    return format_html(
        '<span class="bs-copyable"><span class="bs-id" title="{}">{}</span>'
        '<button type="button" class="bs-copy" data-copy="{}" aria-label="Copy {}" title="Copy">'
        '<span class="material-symbols-outlined" aria-hidden="true">content_copy</span></button></span>',
        *(value, shown or value, value, name or value),
    )


@register.simple_tag
def json_view(text: Any, limit: int = json_text.LIMIT, full_url: str = "", label: str = "JSON") -> SafeString:
    """Show JSON or other text indented, coloured and cut to `limit`; `full_url` serves the full text."""
    source = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str)
    shown = json_text.show(source, limit=limit)
    values = {"shown": shown, "size": len(source), "limit": limit, "full_url": full_url, "label": label}
    return mark_safe(render_to_string("admin/components/json.html", values))  # noqa: S308  # a template's output
