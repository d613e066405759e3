"""Workflows of n8n, and the lanes by which tenants reach them."""

import os
from base64 import b64decode
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from reliability.policies import webhook_path

from .fields import EncryptedTextField, SlugTextField
from .ids import is_demo, uuid7
from .policy import POLICY_FIELDS, LanePolicy, PolicyFields, effective

DEFAULT_TENANT = "default"


def authentication_variable(slug: str) -> str:
    """Return the environment variable that wins over a workflow's stored authentication value."""
    return "N8N_AUTH_" + slug.upper().replace("-", "_")


def unsound_secrets(*, auth_value: str, signing_secret: str) -> dict[str, str]:
    """Return what of a workflow's secrets nothing could be sent with, and why, by column. An empty one is none."""
    wrong = dict[str, str]()
    if auth_value and (not auth_value.isascii() or not auth_value.isprintable() or auth_value != auth_value.strip()):
        wrong["auth_value"] = "A header holds printable ASCII characters alone, and no space at its ends."
    if signing_secret:
        try:
            sound = signing_secret.startswith("whsec_") and b64decode(signing_secret[6:], validate=True)
        except ValueError:
            sound = False
        if not sound:
            wrong |= {"signing_secret": "Such a secret is 'whsec_' and base64."}
    return wrong


class WorkflowQuerySet(models.QuerySet["Workflow"]):
    def paused(self) -> "WorkflowQuerySet":
        return self.filter(paused=True)


class Workflow(PolicyFields):
    """An n8n workflow, reached at its webhook path under `N8N_WEBHOOK_URL`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = SlugTextField(unique=True)
    name = models.TextField()
    path = models.TextField(help_text="The webhook's path in n8n, without a leading slash.")
    stripe_events = ArrayField(models.TextField(), default=list, blank=True)
    auth_header = models.TextField(
        blank=True, default="", help_text="Name of the header by which n8n authenticates the caller."
    )
    auth_value = EncryptedTextField(
        blank=True, default="", help_text="That header's value; kept encrypted, never exported."
    )
    signing_secret = EncryptedTextField(
        blank=True, default="", help_text="Standard Webhooks secret (whsec_…); kept encrypted."
    )
    paused = models.BooleanField(default=False)
    paused_reason = models.TextField(blank=True, default="")
    paused_until = models.DateTimeField(null=True, blank=True)
    n8n_workflow_id = models.TextField(blank=True, default="", help_text="The workflow's id within n8n.")
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
        if wrong := unsound_secrets(auth_value=self.auth_value, signing_secret=self.signing_secret):
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
        """The header by which n8n knows us. The environment's `N8N_AUTH_<SLUG>` wins over the stored value."""
        value = os.environ.get(authentication_variable(self.slug)) or self.auth_value
        return {self.auth_header or "Authorization": value} if value else {}

    @property
    def is_demo(self) -> bool:
        """Whether it was made up for a look at the console: nothing of it is ever sent."""
        return is_demo(self.pk)

    def is_paused(self, *, now: datetime) -> bool:
        return self.paused and (self.paused_until is None or self.paused_until > now)


class Lane(PolicyFields):
    """One (workflow, tenant): what a breaker, a concurrency limit and a rate limit apply to.

    Its policy columns are the tenant's overrides of the workflow's. `attended_until` says that a dispatcher
    will look at the lane again by itself until then, so that arrivals need no wake-up of their own.
    """

    id = models.AutoField(primary_key=True)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="lanes")
    tenant = SlugTextField(default=DEFAULT_TENANT)
    attended_until = models.DateTimeField(null=True, blank=True, editable=False)
    rate_tat = models.DateTimeField(null=True, blank=True, editable=False)
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
