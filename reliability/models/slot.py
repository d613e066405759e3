"""Concurrency slots of a lane that a workflow inside n8n holds, not the dispatcher."""

from django.db import models
from django.db.models import F

from .ids import uuid7
from .workflow import Lane


class Slot(models.Model):
    """One slot within a lane's limit, held by a workflow inside n8n until it is released or its lease ends."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="slots", db_index=False)
    holder = models.TextField(blank=True, default="")
    taken_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(F("lane"), F("expires_at"), name="slot_by_lane")]

    def __str__(self) -> str:
        return f"{self.lane_id} until {self.expires_at}"
