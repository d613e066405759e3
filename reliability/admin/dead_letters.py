"""The dead-letter queue."""

import json
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from reliability.models import DeadLetter
from reliability.pipeline import replay, retry
from reliability.pipeline.selection import DeadLetterFilter

from .base import LaneWorkflowFilter, ReadOnly, WithPayload, as_uuid
from .confirm import ActingScreen, ReasonForm, Verb
from .reports import link


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


class RetryForm(ReasonForm):
    """Which workflow n8n goes on with."""

    load_workflow = forms.BooleanField(
        required=False,
        initial=True,
        label="With the workflow as it is now",
        help_text="Else as it was when it failed.",
        widget=UnfoldBooleanSwitchWidget,
    )


def _kept(pk: UUID) -> dict[str, Any]:
    letter = DeadLetter.objects.filter(pk=pk).first()
    return {"payload": letter.payload if letter else ""}


REPLAY = Verb("replay", "Replay", "dead letters are being replayed", replay.bring_back, "dead_letter_id")
RETRY = Verb(
    key="retry",
    title="Retry in n8n",
    done="executions are being retried in n8n",
    call=retry.begin,
    argument="dead_letter_id",
    form=RetryForm,
    permission="replay",
    warning="n8n goes on from the node that failed, with the data it had.",
)
EDIT = Verb(
    key="edit",
    title="Edit and replay",
    done="dead letter is being replayed, edited",
    call=replay.replay,
    argument="dead_letter_id",
    form=EditForm,
    many=False,
    initial=_kept,
)
PURGE = Verb(
    key="purge",
    title="Purge",
    done="dead letters purged",
    call=replay.purge,
    argument="dead_letter_id",
    warning="What is purged is not sent again.",
)


@admin.register(DeadLetter)
class DeadLetterAdmin(WithPayload, ReadOnly, ActingScreen):
    verbs = (REPLAY, EDIT, RETRY, PURGE)
    list_display = ("id", "lane", "status", "source", "error_code", "error", "retry_count", "died_at", "expires_at")
    list_filter = ("status", "source", LaneWorkflowFilter, "error_code", "died_at")
    list_select_related = ("lane__workflow",)
    search_fields = ("id",)
    search_help_text = "An id, an error code, or words of an error message"
    fields = (
        *("id", "lane", "status", "source", "error_code", "error_message", "retry_count", "delivery"),
        *("execution", "created_at", "died_at", "expires_at", "closed_at", "document"),
    )
    readonly_fields = ("document", "execution")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        if not search_term.strip():
            return queryset, False
        wanted = as_uuid(search_term)
        if wanted is not None:
            return queryset.filter(Q(pk=wanted) | Q(delivery_id=wanted)), False
        return queryset.filter(DeadLetterFilter(search=search_term.strip()).query()), False

    @admin.display(description="execution in n8n")
    def execution(self, letter: DeadLetter) -> str:
        return link(letter.execution_url, letter.execution_id)

    @admin.display(description="error")
    def error(self, letter: DeadLetter) -> str:
        return letter.error_message[:120]
