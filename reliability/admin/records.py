"""What happened: the audit log, and bulk operations."""

from django.contrib import admin

from reliability.models import AuditEntry, Operation

from .base import ReadOnlyScreen


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyScreen):
    list_display = ("at", "actor", "action", "target_type", "target_id", "count", "reason")
    list_filter = ("action", "target_type", "at")
    search_fields = ("actor", "target_id", "reason", "action")


@admin.register(Operation)
class OperationAdmin(ReadOnlyScreen):
    list_display = ("id", "kind", "state", "matched", "done", "skipped", "rate_per_second", "actor", "created_at")
    list_filter = ("kind", "state", "created_at")
    search_fields = ("id", "actor", "reason")
