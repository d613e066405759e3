"""Stripe: endpoints and their secrets, the ledger, what was refused, what was claimed."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminPasswordWidget

from reliability.models import StripeClaim, StripeEndpoint, StripeEvent, StripeRefusal, StripeSecret
from reliability.pipeline import audit, clock, endpoints

from .base import ReadOnly, ReadOnlyInline, ReadOnlyScreen, WithPayload, as_uuid, hand_of
from .confirm import ActingScreen, ReasonForm, Verb

WRITE_ONLY = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})


class SecretForm(ReasonForm):
    """A new signing secret."""

    secret = forms.CharField(
        max_length=200, widget=WRITE_ONLY, help_text="Of the endpoint's page at Stripe: whsec_…. Never shown again."
    )


ADD_SECRET = Verb(
    key="add_secret",
    title="Add a secret",
    done="endpoint accepts one more secret",
    call=endpoints.add_secret,
    argument="endpoint_id",
    form=SecretForm,
    permission="change",
    many=False,
)
RETIRE = Verb(
    key="retire",
    title="Retire",
    done="secrets retired",
    call=endpoints.retire_secret,
    argument="secret_id",
    warning="What Stripe signs with it is refused from now on.",
    permission="change",
)


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    """The API key is written here and never shown: an empty field leaves the kept one as it is."""

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
class StripeEndpointAdmin(ActingScreen):
    verbs = (ADD_SECRET,)
    form = EndpointForm
    list_display = ("slug", "address", "tenant", "mode", "account", "active_secrets", "enabled")
    list_filter = ("mode", "enabled")
    search_fields = ("slug", "tenant", "account")
    inlines = (SecretInline,)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        active = Count("secrets", filter=Q(secrets__active=True))
        found: QuerySet[Any] = super().get_queryset(request).annotate(active=active)
        return found

    @admin.display(description="address")
    def address(self, endpoint: StripeEndpoint) -> str:
        return f"/stripe/webhook/{endpoint.slug}/"

    @admin.display(description="active secrets")
    def active_secrets(self, endpoint: Any) -> int:
        return int(endpoint.active)

    def save_model(self, request: HttpRequest, obj: StripeEndpoint, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            name = f"{'change' if change else 'create'}_stripe_endpoint"
            details = {"fields": form.changed_data}
            audit.record(hand=hand_of(request), action=name, now=clock.now(), target=obj, details=details)


@admin.register(StripeSecret)
class StripeSecretAdmin(ReadOnly, ActingScreen):
    verbs = (RETIRE,)
    list_display = ("endpoint", "hint", "active", "created_at", "retired_at")
    list_filter = ("active", "endpoint")
    list_select_related = ("endpoint",)
    search_fields = ("endpoint__slug", "hint")
    fields = ("endpoint", "hint", "active", "created_at", "retired_at")
    readonly_fields = fields

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(StripeEvent)
class StripeEventAdmin(WithPayload, ReadOnlyScreen):
    list_display = ("event_id", "type", "livemode", "endpoint", "occurred_at", "lag", "stale", "ignored", "led_to")
    list_filter = ("livemode", "source", "stale", "ignored", "endpoint")
    list_select_related = ("endpoint",)
    search_fields = ("event_id",)
    search_help_text = "A whole event id (evt_…), or the id of what it is about (in_…, cus_…)"
    fields = (
        *("event_id", "type", "livemode", "tenant", "account", "endpoint", "secret", "api_version", "object_id"),
        *("occurred_at", "received_at", "source", "stale", "ignored", "arrivals", "delivery_ids", "scrubbed_at"),
        "document",
    )
    readonly_fields = ("document", "arrivals", "delivery_ids")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        """Search by what an index answers."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = as_uuid(term)
        by_name = Q(event_id=term) | (Q(object_id=term) & ~Q(object_id=""))
        return queryset.filter(Q(pk=wanted) if wanted else by_name), False

    @admin.display(description="lag")
    def lag(self, event: StripeEvent) -> str:
        return f"{(event.received_at - event.occurred_at).total_seconds():.0f} s"

    @admin.display(description="deliveries")
    def led_to(self, event: StripeEvent) -> int:
        return len(event.delivery_ids)

    @admin.display(description="arrivals")
    def arrivals(self, event: StripeEvent) -> int:
        return 1 + event.repeats.count()


@admin.register(StripeRefusal)
class StripeRefusalAdmin(ReadOnlyScreen):
    list_display = ("at", "slug", "reason", "address", "count")
    list_filter = ("reason", "slug", "at")
    search_fields = ("slug", "reason", "address")


@admin.register(StripeClaim)
class StripeClaimAdmin(ReadOnlyScreen):
    list_display = ("event_id", "workflow", "tenant", "status", "fencing_token", "lease_until", "holder", "created_at")
    list_filter = ("status", "livemode", "created_at")
    search_fields = ("event_id",)
