"""What happened: the audit log."""

from django.contrib import admin

from reliability.models import AuditEntry

from .base import ReadOnlyScreen


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyScreen):
    list_display = ("at", "actor", "action", "target_type", "target_id", "count", "reason")
    list_filter = ("action", "target_type", "at")
    search_fields = ("actor", "target_id", "reason", "action")
