"""Workflows and lanes: the policy, and the hand that pauses."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminPasswordWidget

from reliability import engine
from reliability.models import Lane, Workflow
from reliability.models.policy import POLICY_FIELDS
from reliability.pipeline import audit, clock, control

from .base import hand_of
from .confirm import ActingScreen, Verb
from .ends import EndForm

PAUSE = Verb("pause", "Pause", "workflows paused: what arrives waits", control.pause, "workflow_id", form=EndForm)
RESUME = Verb("resume", "Resume", "workflows resumed", control.resume, "workflow_id", permission="pause")
SECRETS = ("auth_value", "signing_secret")


class WorkflowForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    """Secrets are written here and never shown: an empty field leaves the kept one as it is."""

    class Meta:
        model = Workflow
        fields = "__all__"  # noqa: DJ007  # the screen's fieldsets choose
        widgets = {name: UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}) for name in SECRETS}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in SECRETS:
            if name in self.fields:
                self.fields[name].help_text = "Write-only. Empty: the kept one stays."

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        for name in SECRETS:
            if name in self.fields and not values.get(name) and self.instance.pk:
                values[name] = getattr(self.instance, name)
        return values


class PolicyScreen(ActingScreen):
    """A screen that changes a policy: on record, and felt by what waits."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, record which fields changed, and have the lanes concerned looked at under the new policy."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            verb = "change" if change else "create"
            name = f"{verb}_{self.opts.model_name}"
            details = {"fields": form.changed_data}
            audit.record(hand=hand_of(request), action=name, now=clock.now(), target=obj, details=details)
            engine.wake_waiting(workflow_id=getattr(obj, "workflow_id", obj.pk))


@admin.register(Workflow)
class WorkflowAdmin(PolicyScreen):
    verbs = (PAUSE, RESUME)
    form = WorkflowForm
    list_display = ("name", "slug", "path", "paused", "paused_reason", "concurrency_limit", "max_retries", "updated_at")
    list_filter = ("paused", "completion")
    search_fields = ("slug", "name", "path")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("paused", "paused_reason", "paused_until", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("name", "slug", "path", "n8n_workflow_id", "stripe_events")}),
        ("Policy (empty: the environment's value)", {"fields": tuple(POLICY_FIELDS)}),
        ("Authentication and signing", {"fields": ("auth_header", *SECRETS)}),
        ("State", {"fields": readonly_fields}),
    )


@admin.register(Lane)
class LaneAdmin(PolicyScreen):
    list_display = ("workflow", "tenant", "concurrency_limit", "max_retries", "rate_limit_per_minute", "created_at")
    list_filter = ("workflow", "tenant")
    list_select_related = ("workflow",)
    search_fields = ("workflow__slug", "workflow__name", "tenant")
    readonly_fields = ("workflow", "tenant", "created_at")
    fieldsets = (
        (None, {"fields": readonly_fields}),
        ("The tenant's own policy (empty: the workflow's value)", {"fields": tuple(POLICY_FIELDS)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
