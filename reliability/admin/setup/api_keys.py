"""API keys: issue, show once, revoke."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from reliability.admin.common import list_columns
from reliability.admin.common.base import PreparesRows, actor_of
from reliability.admin.common.confirm import ActionScreen, Verb
from reliability.admin.common.reason_forms import RequiresReason
from reliability.core import clock
from reliability.models import ApiKey, KeyScope
from reliability.models.ids import uuid7
from reliability.setup import api_keys

REVOKE = Verb(
    "revoke", "Revoke", "revoked", api_keys.revoke, "key_id", warning="Requests with this key fail from now on."
)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    """Asks for a new key. `once` becomes the key's id, so that submitting the form twice issues one key."""

    once = forms.UUIDField(required=False, initial=uuid7, widget=forms.HiddenInput)
    scopes = forms.MultipleChoiceField(
        choices=KeyScope.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Choose the least that the caller needs. None selected: all scopes.",
    )

    class Meta:
        model = ApiKey
        fields = ("name", "tenant", "scopes", "expires_at")

    def clean_expires_at(self) -> datetime | None:
        end: datetime | None = self.cleaned_data["expires_at"]
        if end is not None and end <= clock.now():
            raise forms.ValidationError("Enter a time in the future.")
        return end


class ValidityFilter(admin.SimpleListFilter):
    """Filters keys that are active, no longer valid, or never used."""

    title = "state"
    parameter_name = "is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("over", "Revoked or expired"), ("unused", "Never used")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        now = clock.now()
        over = Q(revoked_at__isnull=False) | Q(expires_at__lte=now)
        wanted = {None: Q(), "active": ~over, "over": over, "unused": Q(last_used_at__isnull=True)}
        return queryset.filter(wanted[self.value()]) if self.value() in wanted else queryset.none()


@admin.register(ApiKey)
class ApiKeyAdmin(PreparesRows, RequiresReason, ActionScreen):
    empty_text = "Callers of the API need a key. Add one with the fewest scopes that the caller needs."
    verbs = (REVOKE,)
    form = KeyForm
    list_display = ("name", "key_prefix", "badge", "tenant_name", "scope_list", "last_used", "created", "expires")
    list_filter = (ValidityFilter,)
    sortable_by = ("name",)
    search_fields = ("name", "prefix", "tenant")
    fields = ("name", "tenant", "scopes", "expires_at", "once")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Issue a key. A form that was submitted before issues none, and the list shows a message."""
        try:
            shown: HttpResponse = super().add_view(request, form_url, extra_context)
        except api_keys.IssuedAlready as refusal:
            messages.warning(request, str(refusal))
            return HttpResponseRedirect(reverse("admin:reliability_apikey_changelist"))
        return shown

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="prefix")
    def key_prefix(self, key: ApiKey) -> str:
        return list_columns.copyable(key.prefix, name="the prefix")

    @admin.display(description="state")
    def badge(self, key: Any) -> str:
        if key.revoked_at is not None:
            return list_columns.status_badge("revoked", tone="off")
        over = key.expires_at is not None and key.expires_at <= key.as_of
        return list_columns.status_badge("expired", tone="off") if over else list_columns.status_badge("active")

    @admin.display(description="tenant")
    def tenant_name(self, key: ApiKey) -> str:
        return key.tenant or list_columns.muted("all")

    @admin.display(description="scopes")
    def scope_list(self, key: ApiKey) -> str:
        return ", ".join(key.scopes) or list_columns.muted("all")

    @admin.display(description="last used")
    def last_used(self, key: Any) -> str:
        return list_columns.moment(key.last_used_at, never="never", now=key.as_of)

    @admin.display(description="created")
    def created(self, key: Any) -> str:
        return list_columns.moment(key.created_at, now=key.as_of)

    @admin.display(description="expires")
    def expires(self, key: Any) -> str:
        return list_columns.moment(key.expires_at, never="never", now=key.as_of)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Issue the key, and show it this one time."""
        obj.pk = form.cleaned_data["once"] or obj.pk
        plain = api_keys.issue(key=obj, actor=actor_of(request, form.cleaned_data["reason"]), now=clock.now())
        copy = list_columns.copy_button(plain, "the key")
        text = format_html("Copy the key now, it is not shown again: <code>{}</code> {}", plain, copy)
        messages.warning(request, text)
