"""Requests with an idempotency key, such as an API call that starts an operation."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from .ids import uuid7


class IdempotencyKey(models.Model):
    """A request that takes effect once: its key, its content and its result.

    `tenant` is the API key's, empty for a key of all tenants; `operation` is the call. `digest` is that of the whole
    request's JSON value. What the request made is named by `row_ids`, or was answered with `answer` (without payloads
    and secrets) and `status`. The row is written by the transaction that does what the request asks for.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.TextField(blank=True, default="")
    operation = models.TextField()
    key = models.TextField()
    digest = models.BinaryField(max_length=32, editable=False)
    row_ids = ArrayField(models.UUIDField(), default=list, blank=True)
    status = models.IntegerField(default=200)
    answer = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=("tenant", "operation", "key"), name="idempotency_key_once"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.key}"
