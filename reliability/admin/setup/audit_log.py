"""The audit log: who did what, when, to what, and why."""

from datetime import datetime
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import PreparesRows
from reliability.admin.common.page import PageScreen
from reliability.models import AuditEntry

LABELS = ("reliability", "scheduling", "axes", "auth")
OTHERS_SHOWN = 20
KINDS = {model._meta.model_name: model for label in LABELS for model in apps.get_app_config(label).get_models()}


def target_link(entry: AuditEntry) -> str:
    """Return a link to the row that an action changed."""
    model = KINDS.get(entry.target_type)
    if model is None or model not in admin.site._registry:
        return entry.target_id or "—"
    name = f"{model._meta.verbose_name} …{entry.target_id[-8:]}"
    return list_columns.link_to(model._meta.label_lower, entry.target_id, name) if entry.target_id else "—"


@admin.register(AuditEntry)
class AuditEntryAdmin(PreparesRows, PageScreen):
    page_template = "admin/reliability/screens/entry.html"
    list_display = ("action", "actor", "target", "count", "why", "when")
    list_filter = (list_columns.value_filter("action"), list_columns.time_filter("at", ordered_by_id=False))
    search_fields = ("actor", "target_id")
    search_help_text = "Full actor, such as user:ada, or the target's id"
    ordering = ("-id",)
    sortable_by = ()

    def key_of(self, text: str) -> Any:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        return rows.filter(Q(actor=term) | Q(target_id=term))

    @admin.display(description="target")
    def target(self, entry: AuditEntry) -> str:
        return target_link(entry)

    @admin.display(description="reason")
    def why(self, entry: AuditEntry) -> str:
        return status_text.short(entry.reason)

    @admin.display(description="when")
    def when(self, entry: Any) -> str:
        return list_columns.moment(entry.at, now=entry.as_of)

    def page(self, request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
        others = AuditEntry.objects.filter(target_type=row.target_type, target_id=row.target_id).exclude(pk=row.pk)
        return {
            "title": f"{row.action} by {row.actor}",
            "target_link": target_link(row),
            "others": list(others.order_by("-id")[:OTHERS_SHOWN]) if row.target_id else [],
        }
