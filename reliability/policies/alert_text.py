"""The texts of alerts: on the console, in mails and in messages."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .alert_rules import BY_NAME, Rule
from .alerts import ChangeKind, Reading

TITLES = {ChangeKind.FIRING: "Firing", ChangeKind.STILL: "Still firing", ChangeKind.RESOLVED: "Resolved"}
NAMED = 3
DETAIL_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Change:
    """One changed alert of a notice. Its JSON is stored in the notice and sent to a workflow. Times are ISO 8601."""

    id: str
    alert: str
    change: str
    severity: str
    workflow: str
    tenant: str
    subject: str
    value: float
    limit: float
    since: str | None
    summary: str
    runbook: str
    console: str

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


def summary(*, reading: Reading) -> str:
    """Return the one-line text of a reading."""
    rule = BY_NAME[reading.name]
    values = {
        "target": reading.target,
        "value": amount(rule=rule, value=reading.value),
        "limit": amount(rule=rule, value=reading.limit),
        "detail": _short(reading.detail) or "no reason recorded",
    }
    return rule.text.format(**values)


def amount(*, rule: Rule, value: float) -> str:
    """Return a value in words: `14 min`, `87.5 %`, `512 MB`, `12`."""
    match rule.unit:
        case "s":
            return _seconds(value)
        case "B":
            return f"{value / 1024 / 1024:,.0f} MB"
        case "share":
            return f"{100 * value:.1f} %"
        case _:
            return f"{value:,.0f}"


def title(*, changes: Sequence[Change], label: str = "") -> str:
    """Return a subject line: firing alerts before resolved ones, the first few by name."""
    parts = []
    for kind, word in TITLES.items():
        names = list(dict.fromkeys(one.alert for one in changes if one.change == kind))
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            parts.append(f"{word}: {', '.join(names[:NAMED])}{more}")
    return f"[{label or 'Backstop'}] {'; '.join(parts)}"


def body(*, changes: Sequence[Change]) -> str:
    """Return plain text, a paragraph for each change."""
    return "\n\n".join(_paragraph(one) for one in changes) + "\n"


def slack(*, changes: Sequence[Change], label: str = "") -> str:
    """Return title and body for Slack, with its control characters `&`, `<` and `>` escaped."""
    text = f"{title(changes=changes, label=label)}\n\n{body(changes=changes)}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _paragraph(one: Change) -> str:
    lines = [f"{TITLES[ChangeKind(one.change)]}: {one.alert} ({one.severity})", one.summary]
    if one.since:
        lines.append(f"Since {one.since}")
    lines += [f"{name}: {where}" for name, where in (("Runbook", one.runbook), ("Console", one.console)) if where]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    left = max(0, int(value))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if left >= size:
            smaller = {"d": (3600, "h"), "h": (60, "min")}.get(unit)
            rest = left % size // smaller[0] if smaller else 0
            return f"{left // size} {unit}" + (f" {rest} {smaller[1]}" if smaller and rest else "")
    return f"{left} s"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= DETAIL_SHOWN else f"{line[:DETAIL_SHOWN]}…"
