"""n8n workflows, and the lanes through which tenants use them."""

import os
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from reliability.policies import headers, webhook_path

from .fields import EncryptedTextField, SlugTextField
from .ids import is_demo, uuid7
from .policy import POLICY_FIELDS, LanePolicy, PolicyFields, effective

DEFAULT_TENANT = "default"
# The columns that decide where a request is sent and how it is authenticated.
ROUTE = ("path", "auth_header", "auth_value", "signing_secret")


AUTHENTICATION = "N8N_AUTH_"


def authentication_variable(slug: str) -> str:
    """Return the environment variable that overrides a workflow's stored authentication value."""
    return AUTHENTICATION + slug.upper().replace("-", "_")


def authentication_problems(*, auth_header: str, auth_value: str, signing_secret: str) -> dict[str, str]:
    """Return why requests could not be sent with these values, by column. Empty values are not used."""
    found = {
        "auth_header": headers.name_problem(auth_header) if auth_header else "",
        "auth_value": headers.value_problem(auth_value),
        "signing_secret": headers.signing_secret_problem(signing_secret) if signing_secret else "",
    }
    return {name: why for name, why in found.items() if why}


class WorkflowQuerySet(models.QuerySet["Workflow"]):
    def paused(self) -> "WorkflowQuerySet":
        return self.filter(paused=True)


class Workflow(PolicyFields):
    """An n8n workflow, reached at its webhook path under `N8N_WEBHOOK_URL`.

    `route_changed_at` is when its path or authentication (`ROUTE`) last changed: a lane whose breaker opened before
    that is probed at once.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = SlugTextField(unique=True)
    name = models.TextField()
    path = models.TextField(help_text="Path of the Webhook node in n8n, without a leading slash.")
    stripe_events = ArrayField(models.TextField(), default=list, blank=True)
    auth_header = models.TextField(
        blank=True, default="", help_text="Name of the header by which n8n authenticates Backstop."
    )
    auth_value = EncryptedTextField(
        blank=True, default="", help_text="Value of that header. Stored encrypted, never exported."
    )
    signing_secret = EncryptedTextField(
        blank=True, default="", help_text="Standard Webhooks secret (whsec_…) for signing requests. Stored encrypted."
    )
    paused = models.BooleanField(default=False)
    paused_reason = models.TextField(blank=True, default="")
    paused_until = models.DateTimeField(null=True, blank=True)
    route_changed_at = models.DateTimeField(null=True, blank=True, editable=False)
    n8n_workflow_id = models.TextField(blank=True, default="", help_text="The workflow's id in n8n.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = WorkflowQuerySet.as_manager()

    class Meta:
        ordering = ("slug",)
        permissions = [("pause_workflow", "Can pause and resume workflows")]
        constraints = [models.CheckConstraint(condition=~Q(path=""), name="workflow_has_a_path")]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if wrong := self.authentication_problems:
            raise ValidationError(wrong)
        if why := webhook_path.problem(self.path):
            raise ValidationError({"path": why})

    @property
    def url(self) -> str:
        return f"{settings.N8N_WEBHOOK_URL.rstrip('/')}/{webhook_path.encode(self.path.lstrip('/'))}"

    @property
    def policy(self) -> LanePolicy:
        return effective(self)

    @property
    def authentication(self) -> dict[str, str]:
        """The authentication header. `N8N_AUTH_<SLUG>` in the environment overrides the stored value."""
        value: str = os.environ.get(self.auth_variable) or self.auth_value
        return {self.auth_header or "Authorization": value} if value else {}

    @property
    def auth_variable(self) -> str:
        """The environment variable that overrides the stored value."""
        return authentication_variable(self.slug)

    @property
    def authentication_problems(self) -> dict[str, str]:
        """Why requests could not be sent with the stored values, by column."""
        return authentication_problems(
            auth_header=self.auth_header, auth_value=self.auth_value, signing_secret=self.signing_secret
        )

    @property
    def local_fault(self) -> str:
        """The setting that keeps its requests from being sent, and why; empty if none does."""
        # Checked again although `clean` does so: older versions stored values that are refused today.
        used = self.authentication_problems
        if value := os.environ.get(self.auth_variable):
            used.pop("auth_value", None)
            if why := headers.value_problem(value):
                used[self.auth_variable] = why
        elif not self.auth_value:
            used.pop("auth_header", None)  # a name without a value is not sent
        return next((f"{setting}: {why}" for setting, why in used.items()), "")

    @property
    def is_demo(self) -> bool:
        """Whether it is demo data, of which nothing is ever sent."""
        return is_demo(self.pk)

    @property
    def route(self) -> tuple[str, ...]:
        """The values of `ROUTE`, for comparing before and after a change."""
        return tuple(getattr(self, name) for name in ROUTE)

    def is_paused(self, *, now: datetime) -> bool:
        return self.paused and (self.paused_until is None or self.paused_until > now)


class Lane(PolicyFields):
    """One (workflow, tenant): what a breaker, a concurrency limit and a rate limit apply to.

    Its policy columns are the tenant's overrides of the workflow's. Until `attended_until` a dispatcher has promised to
    check the lane by itself, so that arrivals need no wake-up (`reliability.queue`).
    """

    id = models.AutoField(primary_key=True)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="lanes")
    tenant = SlugTextField(default=DEFAULT_TENANT)
    attended_until = models.DateTimeField(null=True, blank=True, editable=False)
    rate_tat = models.DateTimeField(null=True, blank=True, editable=False)
    fault = models.TextField(blank=True, default="", db_default="", editable=False)
    fault_until = models.DateTimeField(null=True, blank=True, editable=False)
    fault_wait_ms = models.IntegerField(default=0, db_default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("workflow__slug", "tenant")
        constraints = [models.UniqueConstraint(fields=("workflow", "tenant"), name="lane_is_unique")]

    def __str__(self) -> str:
        return f"{self.workflow_id and self.workflow.slug}/{self.tenant}"

    @property
    def policy(self) -> LanePolicy:
        return effective(self, self.workflow)


def overrides_of(level: PolicyFields) -> dict[str, Any]:
    """Return the policy values that `level` itself sets."""
    values = {name: getattr(level, name) for name in POLICY_FIELDS}
    return {name: value for name, value in values.items() if value is not None and value != ""}
