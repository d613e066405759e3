"""Silences: for which alerts and workflows Backstop sends no notices, until when, and why."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from reliability.admin.common import list_columns
from reliability.admin.common.base import PreparesRows, actor_of
from reliability.admin.common.confirm import ActionScreen, Verb
from reliability.admin.common.duration_forms import EndForm
from reliability.alerts import check as alert_check
from reliability.core import clock
from reliability.models import AlertSilence, Workflow
from reliability.policies.alert_rules import NAMES

END = Verb("end", "End", "ended", alert_check.end_silence, "silence_id")
# The form lists this many workflows. With more, silence a workflow from its alert, through the API or by command.
CHOICES = 1000


class SilenceForm(EndForm, forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    alert = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    workflow = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}))

    class Meta:
        model = AlertSilence
        fields = ("alert", "workflow", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        slugs = Workflow.objects.order_by("slug").values_list("slug", flat=True)[:CHOICES]
        chosen = (("alert", "All alerts", NAMES), ("workflow", "All workflows", slugs))
        for name, all_of_them, ones in chosen:
            self.fields[name].choices = [("", all_of_them), *((one, one) for one in ones)]  # type: ignore[attr-defined]  # a choice field

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if values.get("until") is None and not self.errors.get("until"):
            self.add_error("lasts", "A silence needs an end: choose a duration or a time.")
        return values


class RunningFilter(admin.SimpleListFilter):
    """Filters silences that are active, or ended."""

    title = "state"
    parameter_name = "is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("on", "Active"), ("over", "Ended")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        now = clock.now()
        wanted = {None: Q(), "on": Q(until__gt=now), "over": Q(until__lte=now)}
        return queryset.filter(wanted[self.value()]) if self.value() in wanted else queryset.none()


@admin.register(AlertSilence)
class AlertSilenceAdmin(PreparesRows, ActionScreen):
    empty_text = "A silence stops the notices about an alert, for example during maintenance."
    verbs = (END,)
    form = SilenceForm
    list_display = ("silenced", "badge", "ends", "reason", "created_by", "created")
    list_filter = (RunningFilter, "alert")
    search_fields = ("alert", "workflow", "created_by")
    ordering = ("-id",)
    sortable_by = ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        made = ("alert", "workflow", "until", "reason", "created_by", "created_at")
        return made if obj is not None else ("alert", "workflow", "lasts", "until", "reason")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="silenced")
    def silenced(self, row: AlertSilence) -> str:
        return list_columns.two_lines(row.alert or "All alerts", row.workflow or "all workflows")

    @admin.display(description="state")
    def badge(self, row: Any) -> str:
        return (
            list_columns.status_badge("active")
            if row.until > row.as_of
            else list_columns.status_badge("ended", tone="off")
        )

    @admin.display(description="until")
    def ends(self, row: Any) -> str:
        return list_columns.moment(row.until, now=row.as_of)

    @admin.display(description="created")
    def created(self, row: Any) -> str:
        return list_columns.moment(row.created_at, now=row.as_of)

    def save_model(self, request: HttpRequest, obj: AlertSilence, form: Any, change: bool) -> None:
        """Create the silence by the domain function, which writes the audit log; `obj` gets its id."""
        values = form.cleaned_data
        made = alert_check.silence(
            actor=actor_of(request, values["reason"]),
            now=clock.now(),
            until=values["until"],
            alert=values["alert"],
            workflow=values["workflow"],
        )
        obj.pk, obj.until = made.pk, made.until
