"""The dead-letter queue."""

import json
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget

from reliability.models import DeadLetter
from reliability.pipeline import replay
from reliability.pipeline.selection import DeadLetterFilter

from .base import LaneWorkflowFilter, ReadOnlyScreen, as_uuid, pretty
from .confirm import ReasonForm, Verb, ask


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class EditForm(ReasonForm):
    """A payload to send instead."""

    payload = forms.CharField(strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 16}))

    def clean_payload(self) -> str:
        text: str = self.cleaned_data["payload"]
        try:
            document = json.loads(text, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from error
        if not isinstance(document, dict | list):
            raise forms.ValidationError("A payload is a JSON object or array.")
        if "\\u0000" in text:
            raise forms.ValidationError("A payload cannot hold a NUL character.")
        return text


REPLAY = Verb("replay", "Replay", "dead letters are being replayed", replay.replay, "dead_letter_id")
PURGE = Verb(
    "purge",
    "Purge",
    "dead letters purged",
    replay.purge,
    "dead_letter_id",
    warning="What is purged is not sent again.",
)
EDIT = Verb(
    "edit", "Edit and replay", "dead letters are being replayed, edited", replay.replay, "dead_letter_id", EditForm
)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyScreen):
    list_display = ("id", "lane", "status", "source", "error_code", "error", "retry_count", "died_at", "expires_at")
    list_filter = ("status", "source", LaneWorkflowFilter, "error_code", "died_at")
    list_select_related = ("lane__workflow",)
    search_fields = ("id",)
    search_help_text = "An id, an error code, or words of an error message"
    actions = ("replay_selected", "purge_selected")
    actions_detail = ("replay_one", "edit_one", "purge_one")
    fields = (
        *("id", "lane", "status", "source", "error_code", "error_message", "retry_count", "delivery"),
        *("execution_id", "execution_url", "created_at", "died_at", "expires_at", "closed_at", "document"),
    )
    readonly_fields = ("document",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[DeadLetter]":
        """A list does not read payloads, which may be large."""
        found: QuerySet[DeadLetter] = super().get_queryset(request)
        one = request.resolver_match is not None and "object_id" in request.resolver_match.kwargs
        return found if one else found.defer("payload")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        if not search_term.strip():
            return queryset, False
        wanted = as_uuid(search_term)
        if wanted is not None:
            return queryset.filter(Q(pk=wanted) | Q(delivery_id=wanted)), False
        return queryset.filter(DeadLetterFilter(search=search_term.strip()).query()), False

    @admin.display(description="error")
    def error(self, letter: DeadLetter) -> str:
        return letter.error_message[:120]

    @admin.display(description="payload")
    def document(self, letter: DeadLetter) -> str:
        return pretty(letter.payload)

    def has_replay_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.may(request, "replay")

    def has_edit_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.may(request, "edit")

    def has_purge_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.may(request, "purge")

    @admin.action(description="Replay …", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponse | None:
        return ask(self, request, REPLAY, list(queryset.values_list("pk", flat=True)))

    @admin.action(description="Purge …", permissions=["purge"])
    def purge_selected(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponse | None:
        return ask(self, request, PURGE, list(queryset.values_list("pk", flat=True)))

    @action(description="Replay", url_path="replay", permissions=["replay"])
    def replay_one(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        return ask(self, request, REPLAY, [UUID(object_id)])

    @action(description="Edit and replay", url_path="edit", permissions=["edit"])
    def edit_one(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        letter = DeadLetter.objects.filter(pk=object_id).first()
        return ask(self, request, EDIT, [UUID(object_id)], initial={"payload": letter.payload if letter else ""})

    @action(description="Purge", url_path="purge", permissions=["purge"])
    def purge_one(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        return ask(self, request, PURGE, [UUID(object_id)])
