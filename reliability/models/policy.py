"""A lane's policy: its own values override its workflow's, and those override the environment's."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from reliability.policies import breaker

DAY_MS = 86_400_000
# An n8n that is down is probed at least this often, so that deliveries continue soon after it is back.
INSTANCE_PROBES = timedelta(seconds=30)
FROM_ENVIRONMENT = {
    "concurrency_limit": "N8N_DEFAULT_CONCURRENCY",
    "timeout_ms": "N8N_TIMEOUT_MS",
    "max_retries": "N8N_MAX_RETRIES",
    "base_delay_ms": "N8N_BASE_DELAY_MS",
    "max_delay_ms": "N8N_MAX_DELAY_MS",
    "jitter_factor": "N8N_JITTER_FACTOR",
    "circuit_breaker_threshold": "N8N_CIRCUIT_BREAKER_THRESHOLD",
    "circuit_breaker_window_ms": "N8N_CIRCUIT_BREAKER_WINDOW_MS",
    "circuit_breaker_recovery_ms": "N8N_CIRCUIT_BREAKER_RECOVERY_MS",
}
BUILT_IN: dict[str, Any] = {
    "minimum_failure_rate": None,
    "rate_limit_per_minute": None,
    "completion": "response",
    "callback_timeout_ms": 3_600_000,
    "on_unknown_outcome": "retry",
    "skip_unchanged": False,
}
POLICY_FIELDS = (*FROM_ENVIRONMENT, *BUILT_IN)


class Completion(models.TextChoices):
    """When a delivery is delivered: with n8n's response, or with the workflow's callback."""

    RESPONSE = "response", "With n8n's response"
    CALLBACK = "callback", "With the workflow's callback"


class OnUnknownOutcome(models.TextChoices):
    """What follows an attempt if nobody knows whether n8n ran it."""

    RETRY = "retry", "Retry"
    HOLD = "hold", "Hold as a dead letter"


def _whole(low: int, high: int, help_text: str) -> "models.IntegerField[Any, Any]":
    limits = [MinValueValidator(low), MaxValueValidator(high)]
    return models.IntegerField(null=True, blank=True, validators=limits, help_text=help_text)


def _share(help_text: str) -> "models.FloatField[Any, Any]":
    limits = [MinValueValidator(0.0), MaxValueValidator(1.0)]
    return models.FloatField(null=True, blank=True, validators=limits, help_text=help_text)


class PolicyFields(models.Model):
    """The policy's values as columns; an empty value inherits from the next level."""

    concurrency_limit = _whole(1, 1000, "Maximum deliveries in flight; capped by N8N_MAX_CONCURRENCY.")
    rate_limit_per_minute = _whole(1, 600_000, "Maximum deliveries started per minute. Empty: no limit.")
    timeout_ms = _whole(1, DAY_MS, "Time limit for n8n's response, in milliseconds.")
    max_retries = _whole(0, 1000, "Maximum retries after the first attempt.")
    base_delay_ms = _whole(0, DAY_MS, "Delay before the first retry, in milliseconds.")
    max_delay_ms = _whole(0, DAY_MS, "Maximum delay between attempts, in milliseconds.")
    jitter_factor = _share("Random part of a delay, as a share (0 to 1) of the base delay.")
    circuit_breaker_threshold = _whole(1, 100_000, "Failures within the window that open the breaker.")
    circuit_breaker_window_ms = _whole(1, 7 * DAY_MS, "Length of the sliding window, in milliseconds.")
    circuit_breaker_recovery_ms = _whole(1, 7 * DAY_MS, "Time from opening to the first probe, in milliseconds.")
    minimum_failure_rate = _share("The breaker opens only if at least this share (0 to 1) of attempts failed, too.")
    completion = models.TextField(null=True, blank=True, choices=Completion.choices)
    callback_timeout_ms = _whole(1, 24 * DAY_MS, "Time limit for the workflow's callback, in milliseconds.")
    on_unknown_outcome = models.TextField(null=True, blank=True, choices=OnUnknownOutcome.choices)
    skip_unchanged = models.BooleanField(
        null=True, blank=True, help_text="Skip a delivery whose payload equals the lane's previous one."
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        super().clean()
        base, cap = self.base_delay_ms, self.max_delay_ms
        if base is not None and cap is not None and base > cap:
            raise ValidationError({"base_delay_ms": "The base delay is above the maximum delay."})


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """The values that apply to one lane. Times in milliseconds; `None` means no limit."""

    concurrency_limit: int
    timeout_ms: int
    max_retries: int
    base_delay_ms: int
    max_delay_ms: int
    jitter_factor: float
    circuit_breaker_threshold: int
    circuit_breaker_window_ms: int
    circuit_breaker_recovery_ms: int
    minimum_failure_rate: float | None
    rate_limit_per_minute: int | None
    completion: str
    callback_timeout_ms: int
    on_unknown_outcome: str
    skip_unchanged: bool

    @property
    def breaker(self) -> breaker.Policy:
        return breaker.Policy(
            threshold=self.circuit_breaker_threshold,
            window=timedelta(milliseconds=self.circuit_breaker_window_ms),
            recovery=timedelta(milliseconds=self.circuit_breaker_recovery_ms),
            minimum_failure_rate=self.minimum_failure_rate,
            early_cap=INSTANCE_PROBES,
        )

    @property
    def timeout(self) -> timedelta:
        return timedelta(milliseconds=self.timeout_ms)


def value_of(name: str, levels: tuple[PolicyFields, ...]) -> tuple[Any, str]:
    """Return the value that applies and where it comes from: `tenant`, `workflow` or `environment`.

    `levels` go from the most specific (the lane) to the most general (its workflow).
    """
    for level, origin in zip(levels, ("tenant", "workflow")[-len(levels) :], strict=True):
        value = getattr(level, name)
        if value is not None and value != "":
            return value, origin
    if name in FROM_ENVIRONMENT:
        return getattr(settings, FROM_ENVIRONMENT[name]), "environment"
    return BUILT_IN[name], "environment"


def effective(*levels: PolicyFields) -> LanePolicy:
    """Resolve the policy of `levels`: lane and workflow, or a workflow alone.

    The concurrency limit never exceeds `N8N_MAX_CONCURRENCY`, and a base delay that one level sets never
    exceeds the maximum that another one sets.
    """
    values = {name: value_of(name, levels)[0] for name in POLICY_FIELDS}
    values["concurrency_limit"] = min(values["concurrency_limit"], settings.N8N_MAX_CONCURRENCY)
    values["max_delay_ms"] = max(values["max_delay_ms"], values["base_delay_ms"])
    return LanePolicy(**values)


def instance_breaker_policy() -> breaker.Policy:
    """Return the policy of the n8n instance's own breaker: the environment's values, no minimum rate."""
    return breaker.Policy(
        threshold=settings.N8N_CIRCUIT_BREAKER_THRESHOLD,
        window=timedelta(milliseconds=settings.N8N_CIRCUIT_BREAKER_WINDOW_MS),
        recovery=timedelta(milliseconds=settings.N8N_CIRCUIT_BREAKER_RECOVERY_MS),
        early_cap=INSTANCE_PROBES,
    )
