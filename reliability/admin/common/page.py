"""The detail page of a row: its status in a sentence, its facts, and its actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse

from reliability.core import clock
from reliability.models import AuditEntry

from .base import ReadOnly
from .confirm import ActionScreen, Verb

ENTRIES_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Button:
    """A button. With `why` it is disabled, and `why` is the reason shown beside it."""

    title: str
    url: str
    why: str = ""


class PageScreen(ReadOnly, ActionScreen):
    """A read-only screen with a detail page for each row, rendered by `page_template` with the values of `page`.

    `texts` names the columns whose full text is served at `<id>/text/<name>/`.
    """

    page_template = ""
    texts: tuple[str, ...] = ()

    def page(self, request: HttpRequest, row: Any, *, now: Any) -> dict[str, Any]:
        """Return the template's values beyond the row."""
        return {}

    def why_disabled(self, verb: Verb, row: Any) -> str:
        """Return why an action is not possible for a row now; an empty string if it is possible."""
        return ""

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_text"
        view = self.admin_site.admin_view(self.text_view)
        own = [path("<path:object_id>/text/<slug:name>/", view, name=name)] if self.texts else []
        urls: list[Any] = super().get_urls()
        return own + urls

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row, now = self.row_of(request, object_id), clock.now()
        values = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{str(self.opts.verbose_name).capitalize()} {row}",
            "row": row,
            "now": now,
            "buttons": self.buttons(request, row),
            "back": self.list_address(request),
            "list_name": str(self.opts.verbose_name_plural).capitalize(),
            **self.page(request, row, now=now),
        }
        return TemplateResponse(request, self.page_template, values)

    def row_of(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row in the URL. Raises `PermissionDenied`, and `Http404` if there is no such row."""
        if not self.has_view_permission(request):
            raise PermissionDenied(f"You need the permission {self.opts.app_label}.view_{self.opts.model_name}.")
        pk = self.key_of(object_id)
        row = self.get_queryset(request).filter(pk=pk).first() if pk is not None else None
        if row is None:
            raise Http404(f"This {self.opts.verbose_name} does not exist.")
        return row

    def buttons(self, request: HttpRequest, row: Any) -> list[Button]:
        """Return the buttons that the user has permission for, enabled or disabled."""
        allowed = [verb for verb in self.verbs if self.may(request, verb.needs)]
        return [Button(verb.title, self._address(verb, row), self.why_disabled(verb, row)) for verb in allowed]

    def _address(self, verb: Verb, row: Any) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{verb.key}_one"
        return f"{reverse(name, args=[row.pk])}?stay=1"

    def list_address(self, request: HttpRequest) -> str:
        kept = request.GET.get("_changelist_filters", "")
        where = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return f"{where}?{kept}" if kept else where

    def text_address(self, row: Any, name: str) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_text", args=[row.pk, name])

    def text_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Return a column's full text, which comes from outside, as plain text that no browser renders as HTML."""
        if name not in self.texts:
            raise Http404("This text does not exist.")
        row = self.row_of(request, object_id)
        return plain(str(getattr(row, name)), f"{row.pk}-{name}.txt")


def plain(text: str, name: str) -> HttpResponse:
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return response


def entries_of(row: Any) -> Sequence[AuditEntry]:
    """Return the operator actions on a row, newest first."""
    found = AuditEntry.objects.filter(target_type=row._meta.model_name, target_id=str(row.pk))
    return list(found.order_by("-id")[:ENTRIES_SHOWN])
