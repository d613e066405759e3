"""What is worth an alert. The names, severities, durations and default limits are those of `ops/prometheus/alerts.yml`.

`BackstopDown` is Prometheus' alone: what is down cannot say so.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

MINUTE = timedelta(minutes=1)


class Severity(StrEnum):
    """How soon a person is needed: now, or within the day."""

    CRITICAL = "critical"
    WARNING = "warning"


class Bound(StrEnum):
    """On which side of its limit a value is wrong."""

    ABOVE = ">"
    FROM = ">="
    BELOW = "<"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of alert: a value on the wrong side of its limit for as long as `lasts`.

    `setting` names the limit's environment variable, and `scale` is what one of its units is in those of the value
    (`unit`: `s`, `B`, a share of 1, or empty for a plain number); without a setting the limit is `limit`. `says` is
    the sentence for a person, of `who`, `value` and `limit`.
    """

    name: str
    severity: Severity
    lasts: timedelta
    bound: Bound
    says: str
    setting: str = ""
    limit: float = 0.0
    scale: float = 1.0
    unit: str = ""

    def is_wrong(self, *, value: float, limit: float) -> bool:
        """Whether a value is on the wrong side. What is not a number is on neither."""
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
        lasts=5 * MINUTE,
        bound=Bound.FROM,
        limit=1.0,
        says="The cron endpoint refuses every ping: no CRON_SECRET is set.",
    ),
    Rule(
        name="LightEndpointNotPinged",
        severity=Severity.WARNING,
        lasts=10 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_NOT_PINGED_MINUTES",
        scale=60.0,
        unit="s",
        says="No cron job was pinged for {value}; at most {limit} is expected.",
    ),
    Rule(
        name="CronJobLate",
        severity=Severity.WARNING,
        lasts=MINUTE,
        bound=Bound.FROM,
        limit=0.0,
        unit="s",
        says="{who} is {detail}, by {value}.",
    ),
    Rule(
        name="BreakerOpen",
        severity=Severity.WARNING,
        lasts=MINUTE,
        bound=Bound.FROM,
        limit=0.0,
        unit="s",
        says="The breaker of {who} has been open for {value}: {detail}",
    ),
    Rule(
        name="BreakerOpenLong",
        severity=Severity.CRITICAL,
        lasts=timedelta(0),
        bound=Bound.FROM,
        setting="ALERT_BREAKER_OPEN_LONG_MINUTES",
        scale=60.0,
        unit="s",
        says="The breaker of {who} has not been closed for {value}: {detail}",
    ),
    Rule(
        name="BreakerFlapping",
        severity=Severity.WARNING,
        lasts=MINUTE,
        bound=Bound.FROM,
        setting="ALERT_BREAKER_FLAPS",
        says="The breakers of {who} opened and closed {value} times within an hour.",
    ),
    Rule(
        name="DeadLettersMany",
        severity=Severity.WARNING,
        lasts=5 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_DEAD_LETTERS",
        says="{who} has {value} dead letters; at most {limit} are expected.",
    ),
    Rule(
        name="DeadLettersGrowing",
        severity=Severity.CRITICAL,
        lasts=MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_DEAD_LETTERS_GROWTH",
        says="{value} deliveries of {who} died within 15 minutes; at most {limit} are expected.",
    ),
    Rule(
        name="BacklogOld",
        severity=Severity.WARNING,
        lasts=5 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_BACKLOG_MINUTES",
        scale=60.0,
        unit="s",
        says="The oldest delivery of {who} has been due for {value}; at most {limit} is expected.",
    ),
    Rule(
        name="SuccessRateLow",
        severity=Severity.CRITICAL,
        lasts=5 * MINUTE,
        bound=Bound.BELOW,
        setting="ALERT_SUCCESS_PERCENT",
        scale=0.01,
        unit="share",
        says="{value} of what ended for {who} within 15 minutes was delivered; {limit} is expected.",
    ),
    Rule(
        name="RetrySuccessLow",
        severity=Severity.WARNING,
        lasts=10 * MINUTE,
        bound=Bound.BELOW,
        setting="ALERT_RETRY_SUCCESS_PERCENT",
        scale=0.01,
        unit="share",
        says="{value} of the retries of {who} within 30 minutes delivered; {limit} is expected.",
    ),
    Rule(
        name="SlotsExhausted",
        severity=Severity.WARNING,
        lasts=10 * MINUTE,
        bound=Bound.FROM,
        says="{who} has been at its concurrency limit: {value} in flight of {limit}.",
    ),
    Rule(
        name="NoWorker",
        severity=Severity.CRITICAL,
        lasts=MINUTE,
        bound=Bound.BELOW,
        limit=1.0,
        says="No worker is alive: nothing is delivered.",
    ),
    Rule(
        name="StripeSignaturesFailing",
        severity=Severity.CRITICAL,
        lasts=MINUTE,
        bound=Bound.FROM,
        setting="ALERT_STRIPE_REFUSALS",
        says="{value} requests to the Stripe endpoint {who} were refused for their signature within 15 minutes.",
    ),
    Rule(
        name="MemoryHigh",
        severity=Severity.WARNING,
        lasts=10 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_MEMORY_MB",
        scale=1024.0 * 1024.0,
        unit="B",
        says="{who} holds {value} of memory; at most {limit} is expected.",
    ),
    Rule(
        name="CpuHigh",
        severity=Severity.WARNING,
        lasts=15 * MINUTE,
        bound=Bound.ABOVE,
        setting="ALERT_CPU_PERCENT",
        scale=0.01,
        unit="share",
        says="{who} uses {value} of a CPU; at most {limit} is expected.",
    ),
)
BY_NAME = {rule.name: rule for rule in RULES}
NAMES = tuple(BY_NAME)
