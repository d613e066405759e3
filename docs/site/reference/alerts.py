"""The alert rules of ops/prometheus/alerts.yml."""

import re
from pathlib import Path
from typing import Any

import yaml

from .tables import code, table

RULES = "ops/prometheus/alerts.yml"
INTRODUCTION = """\
# Alert rules

The rules of `ops/prometheus/alerts.yml`: when each fires, and after how long. `check_alerts` has the same, but for
*BackstopDown*, by names without the prefix. What to do then is in the [runbook](../runbook.md), whom it is told in
[Alerts](../alerts.md).

"""


def page(*, root: Path) -> str:
    """Return the page: the rules in their order; nothing where there are none."""
    path = root / RULES
    if not path.exists():
        return ""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    rows = [_row(rule, root) for rule in rules]
    heads = table(("alert", "severity", "for", "means"), rows)
    return INTRODUCTION + heads + "\n## Expressions\n\n" + "\n".join(_expression(rule) for rule in rules)


def _row(rule: dict[str, Any], root: Path) -> tuple[str, str, str, str]:
    notes = rule.get("annotations", {})
    means = str(notes.get("summary") or notes.get("description") or "")
    means = re.sub(r"\{\{ *\$labels\.(\w+) *\}\}", r"*\1*", means)
    severity = str(rule.get("labels", {}).get("severity", ""))
    return _name(rule, root), severity, str(rule.get("for", "at once")), means


def _name(rule: dict[str, Any], root: Path) -> str:
    """Return the alert's name, leading to its part of the runbook where there is one."""
    name = str(rule["alert"])
    anchor = name.removeprefix("Backstop").lower() if name != "BackstopDown" else name.lower()
    runbook = root / "docs" / "runbook.md"
    headings = runbook.read_text(encoding="utf-8").lower() if runbook.exists() else ""
    return f"[{code(name)}](../runbook.md#{anchor})" if f"# {anchor}\n" in headings else code(name)


def _expression(rule: dict[str, Any]) -> str:
    return f"### {rule['alert']}\n\n```promql\n{str(rule['expr']).strip()}\n```\n"
