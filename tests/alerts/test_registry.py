"""Every alert of the registry (`policies.alert_rules`) is complete: this test names what is missing for a new one."""

import re
from pathlib import Path
from string import Formatter

import pytest
import yaml
from django.conf import settings

from reliability.alerts import readings
from reliability.models import Alert
from reliability.policies import alert_text
from reliability.policies.alert_rules import NAMES, RULES
from reliability.policies.alerts import Reading

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PROMETHEUS = {
    one["alert"]: one for one in yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
}
CASES = [one["name"] for one in yaml.safe_load((ROOT / "ops/prometheus/alerts_test.yml").read_text())["tests"]]
SETTINGS = (ROOT / "docs" / "site" / "settings.yml").read_text()
PLACEHOLDERS = {"target", "value", "limit", "detail"}


def test_names_are_unique():
    assert len(set(NAMES)) == len(RULES)


def test_a_source_reads_each_rule():
    missing = readings.unread()
    assert not missing, f"Register a source with these names (reliability/alerts/readings.py): {sorted(missing)}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_alert_is_complete(rule):
    assert {name for _, name, _, _ in Formatter().parse(rule.text) if name} <= PLACEHOLDERS
    summary = alert_text.summary(reading=Reading(rule.name, 1.0, 2.0, workflow="echo", detail="late"))
    assert summary.strip()
    assert "{" not in summary
    assert re.search(rf"^## {rule.name}$", RUNBOOK, re.MULTILINE), (
        f"docs/runbook.md needs the section '## {rule.name}'."
    )
    assert Alert(name=rule.name).runbook == rule.runbook
    found = PROMETHEUS.get(f"Backstop{rule.name}")
    assert found is not None, f"ops/prometheus/alerts.yml needs the rule 'Backstop{rule.name}'."
    assert found["labels"]["severity"] == rule.severity
    assert found["annotations"]["runbook_url"] == f"docs/runbook.md#{rule.runbook}"
    for case in ("fires", "is quiet"):
        assert f"Backstop{rule.name} {case}" in CASES, (
            f"ops/prometheus/alerts_test.yml needs 'Backstop{rule.name} {case}'."
        )
    if rule.setting:
        assert hasattr(settings, rule.setting), f"config/settings.py needs {rule.setting}."
        assert f"{rule.setting}:" in SETTINGS, f"docs/site/settings.yml needs {rule.setting}."


def test_the_runbook_and_prometheus_know_no_other_alert():
    headings = re.findall(r"^## ([A-Z][a-z]+(?:[A-Z][a-z]+)+)$", RUNBOOK, re.MULTILINE)
    assert set(headings) == {"BackstopDown", *NAMES}
    assert set(PROMETHEUS) == {"BackstopDown", *(f"Backstop{name}" for name in NAMES)}
