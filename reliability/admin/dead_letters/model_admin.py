"""The dead-letter queue: its list, and the actions on the selected rows."""

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
from reliability.admin.common.confirm import ActionScreen, ReasonForm, Verb
from reliability.bulk.replay_one import replay_one
from reliability.dead_letters import detail, purge
from reliability.models import DeadLetter
from reliability.n8n import execution_retry

from . import change_list, edit, export
from . import detail as detail_page


class RetryForm(ReasonForm):
    """Asks for the reason, and with which version of the workflow n8n retries the execution."""

    load_workflow = forms.BooleanField(
        required=False,
        initial=True,
        label="Use the current workflow",
        help_text="Off: n8n uses the workflow as it was when the execution failed.",
        widget=UnfoldBooleanSwitchWidget,
    )


REPLAY = Verb("replay", "Replay", "queued for replay", replay_one, "dead_letter_id")
RETRY = Verb(
    key="retry",
    title="Retry in n8n",
    done="queued for an execution retry in n8n",
    call=execution_retry.begin,
    argument="dead_letter_id",
    form=RetryForm,
    permission="replay",
    warning="n8n resumes from the node that failed, with the data that it had.",
)
PURGE = Verb(
    key="purge",
    title="Purge",
    done="purged",
    call=purge.purge,
    argument="dead_letter_id",
    warning="Backstop does not send purged dead letters again. You can undo a purge until the payload is erased.",
)
UNDO_PURGE = Verb(
    key="undo_purge",
    title="Undo purge",
    done="restored to dead",
    call=purge.undo_purge,
    argument="dead_letter_id",
    permission="purge",
)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnly, ActionScreen):
    verbs = (REPLAY, RETRY, PURGE, UNDO_PURGE)
    list_display = ("id", "status")
    list_disable_select_all = True
    search_fields = ("id",)
    search_help_text = "Id, Stripe event, idempotency key, execution or error"
    change_list_template = "admin/reliability/deadletter/list.html"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[DeadLetter]":
        return detail.with_related()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[change_list.DeadLetterChangeList]:
        return change_list.DeadLetterChangeList

    def is_invalid_query(self, params: QueryDict) -> bool:
        """Return `False`: the list itself names what is invalid in the query string."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the actions that the user has permission for."""
        response: HttpResponse = super().changelist_view(request, extra_context)
        shown = getattr(response, "context_data", None)
        if shown is not None and "cl" in shown:
            verbs = ("replay", "purge", "edit", "export")
            shown.update(change_list.context(request, shown["cl"].reading))
            shown.update({f"may_{verb}": self.may(request, verb) for verb in verbs}, title="Dead letters")
        return response

    def response_action(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponseBase | None:
        """Run an action on the selected rows, whatever their status is by now: each reports why it was skipped."""
        if request.POST.get("select_across", "0") != "0":
            messages.error(
                request,
                "Nothing was changed. To replay or purge all matches, use “Replay all matches” or “Purge all matches”.",
            )
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
        return detail_page.show(self, request, object_id)

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponseBase]] = {
            "export/": export.export,
            "<uuid:pk>/edit/": edit.edit,
            "<uuid:pk>/payload/": detail_page.payload,
            "<uuid:pk>/changes/<uuid:delivery_id>/": detail_page.changes,
            "<uuid:pk>/attempts/<int:attempt_id>/": detail_page.body,
        }
        own = [self._path(route, view) for route, view in views.items()]
        return [*own, *super().get_urls()]

    def _path(self, route: str, view: Callable[..., HttpResponseBase]) -> URLPattern:
        def answer(request: HttpRequest, **values: UUID | int) -> HttpResponseBase:
            return view(self, request, **values)

        name = route.strip("/").split("/")[1 if "<uuid:pk>" in route else 0]
        made: URLPattern = path(route, self.admin_site.admin_view(answer), name=f"reliability_deadletter_{name}")
        return made
