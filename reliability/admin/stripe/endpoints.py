"""Stripe endpoints: URL, signing secrets and their rotation, refused requests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.widgets import UnfoldAdminPasswordWidget

from reliability.admin.common import list_columns
from reliability.admin.common.base import PreparesRows, ReadOnly, ReadOnlyInline, actor_of
from reliability.admin.common.confirm import ActionScreen, ReasonForm, Verb
from reliability.admin.common.reason_forms import RequiresReason, changed
from reliability.core import audit, clock
from reliability.models import StripeEndpoint, StripeSecret
from reliability.stripe import endpoints, event_stats

WRITE_ONLY = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})


class SecretForm(ReasonForm):
    """Asks for a new signing secret."""

    secret = forms.CharField(
        max_length=200,
        widget=WRITE_ONLY,
        help_text="From the endpoint's page in the Stripe dashboard (whsec_…). Never shown again.",
    )


ADD_SECRET = Verb(
    key="add_secret",
    title="Add a secret",
    done="updated: the new secret is active",
    call=endpoints.add_secret,
    argument="endpoint_id",
    form=SecretForm,
    permission="change",
    many=False,
)
RETIRE = Verb(
    key="retire",
    title="Retire",
    done="retired",
    call=endpoints.retire_secret,
    argument="secret_id",
    warning="Backstop refuses requests that Stripe signs with this secret from now on.",
    permission="change",
)


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    """The form of an endpoint. The API key is write-only: an empty field keeps the stored value."""

    class Meta:
        model = StripeEndpoint
        fields = ("slug", "tenant", "mode", "account", "api_key", "enabled")
        widgets = {"api_key": WRITE_ONLY}

    def clean_api_key(self) -> str:
        return self.cleaned_data["api_key"] or (self.instance.api_key if self.instance.pk else "")


class SecretInline(ReadOnlyInline):
    model = StripeSecret
    fields = ("hint", "active", "created_at", "retired_at")
    readonly_fields = fields


@admin.register(StripeEndpoint)
class StripeEndpointAdmin(PreparesRows, RequiresReason, ActionScreen):
    empty_text = "Add an endpoint, then enter its URL in the Stripe dashboard."
    verbs = (ADD_SECRET,)
    form = EndpointForm
    list_display = ("slug", "address", "tenant", "mode", "rotation", "last_event", "refused", "enabled")
    list_filter = ("mode", "enabled")
    search_fields = ("slug", "tenant", "account")
    inlines = (SecretInline,)
    sortable_by = ("slug", "tenant")
    change_form_outer_before_template = "admin/reliability/screens/endpoint.html"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        active = Count("secrets", filter=Q(secrets__active=True))
        found: QuerySet[Any] = super().get_queryset(request).annotate(active=active)
        return found

    @admin.display(description="path")
    def address(self, endpoint: StripeEndpoint) -> str:
        return f"/stripe/webhook/{endpoint.slug}/"

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        found = event_stats.of_endpoints(endpoints=rows, now=now)
        for row in rows:
            row.recent = found[row.pk]

    @admin.display(description="secrets")
    def rotation(self, endpoint: Any) -> str:
        label = {0: "none: all requests refused", 1: "1 active"}.get(endpoint.active, f"{endpoint.active} active")
        tone = "bad" if not endpoint.active else "warn" if endpoint.active > 1 else "good"
        return list_columns.status_badge(label, label=label, tone=tone)

    @admin.display(description="last event")
    def last_event(self, row: Any) -> str:
        return list_columns.moment(row.recent.last_event_at, never="none yet", now=row.as_of)

    @admin.display(description="refused, 24 h")
    def refused(self, row: Any) -> str:
        if not row.recent.refused:
            return list_columns.muted("0")
        return list_columns.link_to_list("reliability.striperefusal", f"{row.recent.refused:,}", q=row.slug)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        pk = self.key_of(object_id)
        row = self.get_queryset(request).filter(pk=pk).first() if pk else None
        more = _summary(request, row, now=clock.now()) if row is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})
        return answer

    def save_model(self, request: HttpRequest, obj: StripeEndpoint, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            name = f"{'change' if change else 'create'}_stripe_endpoint"
            details = {"fields": changed(form)}
            actor = actor_of(request, form.cleaned_data["reason"])
            audit.record(actor=actor, action=name, now=clock.now(), target=obj, details=details)


def _summary(request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
    """Return the values above the form: the webhook URL for Stripe, and recent statistics."""
    return {
        "row": row,
        "now": now,
        "url": request.build_absolute_uri(f"/stripe/webhook/{row.slug}/"),
        "recent": event_stats.of_endpoints(endpoints=[row], now=now)[row.pk],
        "active": row.active,
        "refusals": event_stats.refusals(endpoint=row),
    }


@admin.register(StripeSecret)
class StripeSecretAdmin(ReadOnly, ActionScreen):
    verbs = (RETIRE,)
    list_display = ("endpoint", "hint", "active", "created_at", "retired_at")
    list_filter = ("active", "endpoint")
    list_select_related = ("endpoint",)
    search_fields = ("endpoint__slug", "hint")
    fields = ("endpoint", "hint", "active", "created_at", "retired_at")
    readonly_fields = fields

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
