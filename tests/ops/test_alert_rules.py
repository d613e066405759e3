"""The rules for Prometheus: tried out by its own tool, and the same as those that the database is asked by."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from reliability.alerts import readings as alert_readings
from reliability.metrics import catalogue
from reliability.policies.alert_rules import BY_NAME, RULES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ops" / "prometheus"
FOUND = {one["alert"]: one for one in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]}
CASES = [one["name"] for one in yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]]
METRICS = {one.name: set(one.labels) for one in catalogue.described()} | {"up": set()}
# What Prometheus adds to every series of a target.
OF_TARGETS = {"job", "instance"}
# Of these the limit is no number of the expression: a state, one sum against another, or the duration itself.
WITHOUT_LIMIT = {"CronJobLate", "BreakerOpen", "BreakerOpenLong", "SlotsExhausted", "LightEndpointFailing"}


def test_prometheus_reads_them_and_each_fires_and_is_quiet_as_its_cases_say(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip(
            "promtool is absent, so the alert rules were NOT tried out: 'apt-get install prometheus' (Debian) has it"
        )
    for name in ("alerts.yml", "alerts_test.yml", "prometheus.yml"):
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "backstop-token").write_text("a token")
    for words in ("check rules alerts.yml", "test rules alerts_test.yml", "check config prometheus.yml"):
        done = subprocess.run(
            [promtool, *words.split()], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_those_that_the_database_is_asked_by():
    assert set(FOUND) == {"BackstopDown", *(f"Backstop{rule.name}" for rule in RULES)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_severity_duration_and_limit_are_the_same(rule):
    found = FOUND[f"Backstop{rule.name}"]
    assert found["labels"] == {"severity": str(rule.severity)}
    if rule.name == "BreakerOpenLong":  # for whom its duration is the limit
        assert seconds(found["for"]) == alert_readings.limit_of(rule.name)
    else:
        assert seconds(found["for"]) == rule.duration.total_seconds()
    if rule.name not in WITHOUT_LIMIT:
        limits = re.findall(rf"(?<![<>=]){rule.bound} ([0-9.]+)", found["expr"])
        assert alert_readings.limit_of(rule.name) in [float(one) for one in limits], limits


def test_samples_and_windows_are_the_same():
    assert f">= {alert_readings.SAMPLE_ENDED}" in FOUND["BackstopSuccessRateLow"]["expr"]
    assert f">= {alert_readings.SAMPLE_RETRIES}" in FOUND["BackstopRetrySuccessLow"]["expr"]
    for name, window in (("SuccessRateLow", "15m"), ("DeadLettersGrowing", "15m"), ("StripeSignaturesFailing", "15m")):
        assert set(re.findall(r"\[(\w+)\]", FOUND[f"Backstop{name}"]["expr"])) == {window}
    reasons = re.search(r'result=~"([^"]+)"', FOUND["BackstopStripeSignaturesFailing"]["expr"])[1]
    assert set(reasons.split("|")) == set(alert_readings.SIGNATURES)


@pytest.mark.parametrize("name", FOUND)
def test_each_uses_metrics_and_labels_that_there_are(name):
    expr = re.sub(r'"[^"]*"', '""', FOUND[name]["expr"])
    used = re.findall(r"\b((?:backstop|process)_\w+|up)\b(?:\{([^}]*)\})?", expr)
    assert used
    known = set().union(*(METRICS[metric] for metric, _ in used)) | OF_TARGETS
    for metric, labels in used:
        assert set(re.findall(r"(\w+)\s*(?:=~|=|!=|!~)", labels)) <= METRICS[metric] | OF_TARGETS
    for grouped in re.findall(r"\b(?:by|without) \(([^)]*)\)", expr):
        assert set(grouped.split(", ")) <= known
    for text in FOUND[name]["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= known


@pytest.mark.parametrize("name", FOUND)
def test_each_says_what_is_the_matter_and_where_to_read_on(name):
    notes = FOUND[name]["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["description"].endswith(".")
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {one.lower() for one in headings}
    assert anchor in {*(one.lower() for one in BY_NAME), "backstopdown"}


@pytest.mark.parametrize("name", FOUND)
def test_each_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet(name):
    assert {f"{name} fires", f"{name} is quiet"} <= set(CASES)


def seconds(text: str) -> float:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
