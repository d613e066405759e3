"""Archives: the files that expired dead letters move to, and the command that restores them."""

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from reliability.admin.common import list_columns
from reliability.admin.common.base import PreparesRows, ReadOnlyScreen, as_uuid
from reliability.models import Archive, ArchiveState

TONES = {ArchiveState.KEPT: "good", ArchiveState.WRITING: "busy", ArchiveState.ABANDONED: "off"}


@admin.register(Archive)
class ArchiveAdmin(PreparesRows, ReadOnlyScreen):
    """Archive files. Only a command restores dead letters: it reads a whole file, which takes too long for a page."""

    empty_text = "Dead letters move to an archive when their retention time ends."
    list_display = ("short_name", "badge", "letters", "restored_count", "file_size", "checksum", "completed", "command")
    list_filter = ("state", list_columns.time_filter("created_at"))
    search_fields = ("name",)
    search_help_text = "Full archive name or id"
    ordering = ("-id",)
    sortable_by = ()
    fields = ("name", "badge", "letters", "restored_count", "file_size", "checksum", "created_at", "kept_at", "command")
    readonly_fields = ("badge", "restored_count", "file_size", "checksum", "command")

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        wanted = as_uuid(term)
        return rows.filter(**{"pk": wanted} if wanted else {"name": term})

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Defer the long columns: a manifest lists each block, and `restored` each dead letter."""
        digest = {"sha256": KT("manifest__sha256"), "restored_total": F("restored__len")}
        found: QuerySet[Any] = super().get_queryset(request).annotate(**digest)
        return found.defer("manifest", "restored", "withdrawn")

    @admin.display(description="archive")
    def short_name(self, archive: Archive) -> str:
        """Show the time and the end of the id; the archive's page has the full name."""
        moment, _, end = archive.name.rpartition("/")[2].partition("-")
        return f"{moment} …{end[-8:]}" if end else archive.name

    @admin.display(description="state")
    def badge(self, archive: Archive) -> str:
        return list_columns.status_badge(archive.state, tone=TONES.get(ArchiveState(archive.state), "off"))

    @admin.display(description="restored")
    def restored_count(self, archive: Any) -> int:
        return int(archive.restored_total)

    @admin.display(description="size")
    def file_size(self, archive: Archive) -> str:
        return filesizeformat(archive.size)

    @admin.display(description="SHA-256")
    def checksum(self, archive: Any) -> str:
        digest = archive.sha256 or ""
        return (
            list_columns.copyable(digest, shown=f"{digest[:12]}…", name="the checksum")
            if digest
            else list_columns.muted("none yet")
        )

    @admin.display(description="completed")
    def completed(self, archive: Any) -> str:
        return list_columns.moment(archive.kept_at, never="not completed", now=archive.as_of)

    @admin.display(description="restore")
    def command(self, archive: Archive) -> str:
        if archive.state != ArchiveState.KEPT:
            return list_columns.muted("nothing to restore")
        text = f"manage.py restore_archive {archive.name} --dry-run"
        return list_columns.copyable(text, shown="restore_archive …", name="the command")
