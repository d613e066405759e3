"""One row on a page of its own: how it stands in a sentence, its facts, and what can be pressed."""

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
from .confirm import ActingScreen, Verb

ENTRIES_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Button:
    """What can be pressed; with `why`, it cannot, and that is why."""

    title: str
    url: str
    why: str = ""


class PageScreen(ReadOnly, ActingScreen):
    """A read-only screen whose rows have pages of their own, by `page_template` and `page`.

    `texts` names the columns whose whole text can be asked for, at `<id>/text/<name>/`.
    """

    page_template = ""
    texts: tuple[str, ...] = ()

    def page(self, request: HttpRequest, row: Any, *, now: Any) -> dict[str, Any]:
        """Return what the template needs beside the row."""
        return {}

    def why_not(self, verb: Verb, row: Any) -> str:
        """Return why a verb cannot be done to a row now, if it cannot."""
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
        """Return the row that an address names. Raises `PermissionDenied`, and `Http404`."""
        if not self.has_view_permission(request):
            raise PermissionDenied(f"You need the permission {self.opts.app_label}.view_{self.opts.model_name}.")
        pk = self.key_of(object_id)
        row = self.get_queryset(request).filter(pk=pk).first() if pk is not None else None
        if row is None:
            raise Http404(f"There is no such {self.opts.verbose_name}.")
        return row

    def buttons(self, request: HttpRequest, row: Any) -> list[Button]:
        """Return what the user may press, whether it can be pressed or not."""
        allowed = [verb for verb in self.verbs if self.may(request, verb.needs)]
        return [Button(verb.title, self._address(verb, row), self.why_not(verb, row)) for verb in allowed]

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
        """Answer with the whole of a stranger's text, in such a way that no browser takes it for a page."""
        if name not in self.texts:
            raise Http404("There is no such text.")
        row = self.row_of(request, object_id)
        return plain(str(getattr(row, name)), f"{row.pk}-{name}.txt")


def plain(text: str, name: str) -> HttpResponse:
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return response


def entries_of(row: Any) -> Sequence[AuditEntry]:
    """Return what people did to a row, the newest first."""
    found = AuditEntry.objects.filter(target_type=row._meta.model_name, target_id=str(row.pk))
    return list(found.order_by("-id")[:ENTRIES_SHOWN])
