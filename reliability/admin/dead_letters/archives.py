"""Archives: the files that expired dead letters move to, and the command that restores them."""

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from reliability.admin.common import list_columns
from reliability.admin.common.base import ReadOnlyScreen, Telling, as_uuid
from reliability.models import Archive, ArchiveState

TONES = {ArchiveState.KEPT: "good", ArchiveState.WRITING: "busy", ArchiveState.ABANDONED: "off"}


@admin.register(Archive)
class ArchiveAdmin(Telling, ReadOnlyScreen):
    """Archive files. Only a command restores dead letters: it reads a whole file, which takes too long for a page."""

    list_display = ("what", "standing", "letters", "back", "weight", "checksum", "when", "command")
    list_filter = ("state", list_columns.recent_by("created_at"))
    search_fields = ("name",)
    search_help_text = "Full archive name or id"
    ordering = ("-id",)
    sortable_by = ()
    fields = ("name", "standing", "letters", "back", "weight", "checksum", "created_at", "kept_at", "command")
    readonly_fields = ("standing", "back", "weight", "checksum", "command")

    def searched(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        wanted = as_uuid(term)
        return rows.filter(**{"pk": wanted} if wanted else {"name": term})

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Defer the long columns: a manifest lists each block, and `restored` each dead letter."""
        said = {"sha256": KT("manifest__sha256"), "came_back": F("restored__len")}
        found: QuerySet[Any] = super().get_queryset(request).annotate(**said)
        return found.defer("manifest", "restored", "withdrawn")

    @admin.display(description="archive")
    def what(self, archive: Archive) -> str:
        """Show the time and the end of the id; the archive's page has the full name."""
        moment, _, end = archive.name.rpartition("/")[2].partition("-")
        return f"{moment} …{end[-8:]}" if end else archive.name

    @admin.display(description="state")
    def standing(self, archive: Archive) -> str:
        return list_columns.status_badge(archive.state, tone=TONES.get(ArchiveState(archive.state), "off"))

    @admin.display(description="restored")
    def back(self, archive: Any) -> int:
        return int(archive.came_back)

    @admin.display(description="size")
    def weight(self, archive: Archive) -> str:
        return filesizeformat(archive.size)

    @admin.display(description="SHA-256")
    def checksum(self, archive: Any) -> str:
        said = archive.sha256 or ""
        return (
            list_columns.copyable(said, shown=f"{said[:12]}…", name="the checksum")
            if said
            else list_columns.quiet("none yet")
        )

    @admin.display(description="completed")
    def when(self, archive: Any) -> str:
        return list_columns.moment(archive.kept_at, never="not completed", now=archive.seen_at)

    @admin.display(description="restore")
    def command(self, archive: Archive) -> str:
        if archive.state != ArchiveState.KEPT:
            return list_columns.quiet("nothing to restore")
        text = f"manage.py restore_archive {archive.name} --dry-run"
        return list_columns.copyable(text, shown="restore_archive …", name="the command")
