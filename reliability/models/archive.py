"""Archives: files outside the database with expired dead letters."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from .ids import uuid7


class ArchiveState(models.TextChoices):
    """Being written, valid, or abandoned (then its files are deleted)."""

    WRITING = "writing", "Writing"
    KEPT = "kept", "Complete"
    ABANDONED = "abandoned", "Abandoned"


class Archive(models.Model):
    """One archive file and its manifest. The row is written before the first byte of the file.

    Only one is written at a time: by `writer`, a database session, until `lease_until`. `letters` is the number of dead
    letters moved into it. `withdrawn` and `restored` are line numbers (from 1): of dead letters that changed while the
    file was written, and of those restored since. `manifest` is a copy of the manifest file. Rows are never deleted.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.TextField(unique=True, help_text="The name of both files, without the extension.")
    state = models.TextField(choices=ArchiveState.choices, default=ArchiveState.WRITING)
    writer = models.TextField()
    lease_until = models.DateTimeField()
    created_at = models.DateTimeField()
    kept_at = models.DateTimeField(null=True, blank=True)
    letters = models.IntegerField(default=0)
    size = models.BigIntegerField(default=0)
    manifest = models.JSONField(default=dict)
    withdrawn = ArrayField(models.IntegerField(), default=list)
    restored = ArrayField(models.IntegerField(), default=list)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=("state",), condition=Q(state="writing"), name="archive_one_writes"),
            models.CheckConstraint(condition=Q(state__in=ArchiveState.values), name="archive_state_known"),
        ]

    def __str__(self) -> str:
        return self.name
