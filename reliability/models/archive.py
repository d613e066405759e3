"""Archives: files outside the database that hold expired dead letters."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from .ids import uuid7


class ArchiveState(models.TextChoices):
    """The state of an archive. The files of an abandoned one are invalid and are deleted."""

    WRITING = "writing", "Writing"
    KEPT = "kept", "Complete"
    ABANDONED = "abandoned", "Abandoned"


class Archive(models.Model):
    """One archive file with its manifest. The row is committed before the first byte is written.

    One at a time is written: by `writer`, a session of the database, until `lease_until`. `letters` is how many left
    the table into it; a line of the file whose letter moved on meanwhile is `withdrawn`, one that was brought back
    `restored` (numbers from 1). `manifest` is a copy of the manifest file. These rows stay for good.
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
