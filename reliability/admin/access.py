"""API keys: issued here, shown once, revoked here."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from reliability.models import ApiKey, KeyScope
from reliability.models.access import PREFIX_LENGTH, hash_key, make_key
from reliability.pipeline import audit, clock, keys

from .base import hand_of
from .confirm import ActingScreen, Verb

REVOKE = Verb(
    "revoke", "Revoke", "keys revoked", keys.revoke, "key_id", warning="Whoever uses it is refused from now on."
)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    scopes = forms.MultipleChoiceField(
        choices=KeyScope.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None chosen: all of them.",
    )

    class Meta:
        model = ApiKey
        fields = ("name", "tenant", "scopes", "expires_at")


@admin.register(ApiKey)
class ApiKeyAdmin(ActingScreen):
    verbs = (REVOKE,)
    form = KeyForm
    list_display = ("name", "prefix", "tenant", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("tenant", "revoked_at", "last_used_at")
    search_fields = ("name", "prefix", "tenant")
    fields = ("name", "tenant", "scopes", "expires_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Issue the key, and show it this once."""
        plain = make_key()
        obj.prefix, obj.hash = plain[:PREFIX_LENGTH], hash_key(plain)
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            audit.record(hand=hand_of(request), action="issue_key", now=clock.now(), target=obj)
        text = format_html("The key, shown this once: <code>{}</code>", plain)
        messages.warning(request, text)
