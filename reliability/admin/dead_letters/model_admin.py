"""The dead-letter queue: its list, and what can be done with the rows chosen."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path
from unfold.widgets import UnfoldBooleanSwitchWidget

from reliability.admin.common.base import ReadOnly
from reliability.admin.common.confirm import ActingScreen, ReasonForm, Verb
from reliability.bulk.replay_one import replay_one
from reliability.dead_letters import detail, purge
from reliability.models import DeadLetter
from reliability.n8n import execution_retry

from . import change_list, edit, export
from . import detail as letter_page


class RetryForm(ReasonForm):
    """Which workflow n8n goes on with."""

    load_workflow = forms.BooleanField(
        required=False,
        initial=True,
        label="With the workflow as it is now",
        help_text="Else as it was when it failed.",
        widget=UnfoldBooleanSwitchWidget,
    )


REPLAY = Verb("replay", "Replay", "dead letters are being replayed", replay_one, "dead_letter_id")
RETRY = Verb(
    key="retry",
    title="Retry in n8n",
    done="executions are being retried in n8n",
    call=execution_retry.begin,
    argument="dead_letter_id",
    form=RetryForm,
    permission="replay",
    warning="n8n goes on from the node that failed, with the data it had.",
)
PURGE = Verb(
    key="purge",
    title="Purge",
    done="dead letters purged",
    call=purge.purge,
    argument="dead_letter_id",
    warning="What is purged is not sent again. It can be undone for some days; then the payload is erased.",
)
UNDO_PURGE = Verb(
    key="undo_purge",
    title="Undo purge",
    done="dead letters are dead again",
    call=purge.undo_purge,
    argument="dead_letter_id",
    permission="purge",
)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnly, ActingScreen):
    verbs = (REPLAY, RETRY, PURGE, UNDO_PURGE)
    list_display = ("id", "status")
    list_disable_select_all = True
    search_fields = ("id",)
    search_help_text = "Id, Stripe event, key, execution or error"
    change_list_template = "admin/reliability/deadletter/list.html"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[DeadLetter]":
        return detail.with_related()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[change_list.LetterList]:
        return change_list.LetterList

    def is_senseless(self, params: QueryDict) -> bool:
        """Leave it to the list, which names what makes no sense."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, with what this person may do."""
        response: HttpResponse = super().changelist_view(request, extra_context)
        shown = getattr(response, "context_data", None)
        if shown is not None and "cl" in shown:
            verbs = ("replay", "purge", "edit", "export")
            shown.update(change_list.context(request, shown["cl"].reading))
            shown.update({f"may_{verb}": self.may(request, verb) for verb in verbs}, title="Dead letters")
        return response

    def response_action(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponseBase | None:
        """Act on the rows chosen, whatever became of them meanwhile: each says why it was left as it is."""
        if request.POST.get("select_across", "0") != "0":
            messages.error(request, "All that match are replayed or purged by a bulk operation. Nothing was done.")
            return HttpResponseRedirect(request.get_full_path())
        response: HttpResponseBase | None = super().response_action(request, self.get_queryset(request))
        return response

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one dead letter on a page of its own."""
        return letter_page.show(self, request, object_id)

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponseBase]] = {
            "export/": export.export,
            "<uuid:pk>/edit/": edit.edit,
            "<uuid:pk>/payload/": letter_page.payload,
            "<uuid:pk>/changes/<uuid:delivery_id>/": letter_page.changes,
            "<uuid:pk>/attempts/<int:attempt_id>/": letter_page.body,
        }
        own = [self._path(route, view) for route, view in views.items()]
        return [*own, *super().get_urls()]

    def _path(self, route: str, view: Callable[..., HttpResponseBase]) -> URLPattern:
        def answer(request: HttpRequest, **values: UUID | int) -> HttpResponseBase:
            return view(self, request, **values)

        name = route.strip("/").split("/")[1 if "<uuid:pk>" in route else 0]
        made: URLPattern = path(route, self.admin_site.admin_view(answer), name=f"reliability_deadletter_{name}")
        return made
