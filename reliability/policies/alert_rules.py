"""The registry of alerts: names, severities, durations, limits, texts and runbook anchors.

`ops/prometheus/alerts.yml` has the same rules for Prometheus, and `docs/runbook.md` a section for each. To add an
alert, add its `Rule` here and run `tests/alerts/test_registry.py`, which names everything that is missing.
`BackstopDown` exists only in Prometheus: a service that is down cannot report itself.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

MINUTE = timedelta(minutes=1)


class Severity(StrEnum):
    """How soon a person has to act: now, or within the day."""

    CRITICAL = "critical"
    WARNING = "warning"


class Bound(StrEnum):
    """On which side of the limit a value is wrong."""

    ABOVE = ">"
    FROM = ">="
    BELOW = "<"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of alert: a value on the wrong side of its limit for at least `duration`.

    `setting` names the environment variable of the limit; without one the limit is `limit`. `scale` converts the
    variable's unit to that of the value (`unit`: `s`, `B`, `share` of 1, or empty for a plain number). `text` is the
    summary, with the placeholders `target`, `value`, `limit` and `detail`.
    """

    name: str
    severity: Severity
    duration: timedelta
    bound: Bound
    text: str
    setting: str = ""
    limit: float = 0.0
    scale: float = 1.0
    unit: str = ""

    @property
    def runbook(self) -> str:
        """The anchor of the alert's page in docs/runbook.md."""
        return self.name.lower()

    def is_beyond_limit(self, *, value: float, limit: float) -> bool:
        """Whether a value is on the wrong side of the limit; NaN is not."""
        match self.bound:
            case Bound.ABOVE:
                return value > limit
            case Bound.FROM:
                return value >= limit
            case _:
                return value < limit


RULES: tuple[Rule, ...] = (
    Rule(
        name="LightEndpointFailing",
        severity=Severity.CRITICAL,
        duration=5 * MINUTE,
        bound=Bound.FROM,
        limit=1.0,
        text="The cron endpoint refuses every ping: CRON_SECRET is not set.",
    ),
    Rule(
        name="LightEndpointNotPinged",
        severity=Severity.WARNING,
        duration=10 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_NOT_PINGED_MINUTES",
        scale=60.0,
        unit="s",
        text="No cron job has been pinged for {value} (limit: {limit}).",
    ),
    Rule(
        name="CronJobLate",
        severity=Severity.WARNING,
        duration=MINUTE,
        bound=Bound.FROM,
        limit=0.0,
        unit="s",
        text="The cron job {target} is {detail}: {value} late.",
    ),
    Rule(
        name="BreakerOpen",
        severity=Severity.WARNING,
        duration=MINUTE,
        bound=Bound.FROM,
        limit=0.0,
        unit="s",
        text="The breaker of {target} has been open for {value}: {detail}",
    ),
    Rule(
        name="BreakerOpenLong",
        severity=Severity.CRITICAL,
        duration=timedelta(0),
        bound=Bound.FROM,
        setting="ALERT_BREAKER_OPEN_LONG_MINUTES",
        scale=60.0,
        unit="s",
        text="The breaker of {target} has not closed for {value}: {detail}",
    ),
    Rule(
        name="BreakerFlapping",
        severity=Severity.WARNING,
        duration=MINUTE,
        bound=Bound.FROM,
        setting="ALERT_BREAKER_FLAPS",
        text="The breakers of {target} opened and closed {value} times within one hour.",
    ),
    Rule(
        name="DeadLettersMany",
        severity=Severity.WARNING,
        duration=5 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_DEAD_LETTERS",
        text="{target} has {value} dead letters (limit: {limit}).",
    ),
    Rule(
        name="DeadLettersGrowing",
        severity=Severity.CRITICAL,
        duration=MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_DEAD_LETTERS_GROWTH",
        text="{value} new dead letters of {target} within 15 minutes (limit: {limit}).",
    ),
    Rule(
        name="BacklogOld",
        severity=Severity.WARNING,
        duration=5 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_BACKLOG_MINUTES",
        scale=60.0,
        unit="s",
        text="The oldest delivery of {target} has been due for {value} (limit: {limit}).",
    ),
    Rule(
        name="SuccessRateLow",
        severity=Severity.CRITICAL,
        duration=5 * MINUTE,
        bound=Bound.BELOW,
        setting="ALERT_SUCCESS_PERCENT",
        scale=0.01,
        unit="share",
        text="Success rate of {target} within 15 minutes: {value} (minimum: {limit}).",
    ),
    Rule(
        name="RetrySuccessLow",
        severity=Severity.WARNING,
        duration=10 * MINUTE,
        bound=Bound.BELOW,
        setting="ALERT_RETRY_SUCCESS_PERCENT",
        scale=0.01,
        unit="share",
        text="Success rate of the retries of {target} within 30 minutes: {value} (minimum: {limit}).",
    ),
    Rule(
        name="SlotsExhausted",
        severity=Severity.WARNING,
        duration=10 * MINUTE,
        bound=Bound.FROM,
        text="{target} is at its concurrency limit: {value} of {limit} slots in use.",
    ),
    Rule(
        name="NoWorker",
        severity=Severity.CRITICAL,
        duration=MINUTE,
        bound=Bound.BELOW,
        limit=1.0,
        text="No worker is running, so nothing is delivered.",
    ),
    Rule(
        name="StripeSignaturesFailing",
        severity=Severity.CRITICAL,
        duration=MINUTE,
        bound=Bound.FROM,
        setting="ALERT_STRIPE_REFUSALS",
        text="The Stripe endpoint {target} refused {value} requests within 15 minutes because of their signature.",
    ),
    Rule(
        name="MemoryHigh",
        severity=Severity.WARNING,
        duration=10 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_MEMORY_MB",
        scale=1024.0 * 1024.0,
        unit="B",
        text="{target} uses {value} of memory (limit: {limit}).",
    ),
    Rule(
        name="CpuHigh",
        severity=Severity.WARNING,
        duration=15 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_CPU_PERCENT",
        scale=0.01,
        unit="share",
        text="{target} uses {value} of a CPU (limit: {limit}).",
    ),
)
BY_NAME = {rule.name: rule for rule in RULES}
NAMES = tuple(BY_NAME)
