"""Idempotency keys of whole requests: a batch, a reported dead letter, a replay, and what else makes something."""

import django.contrib.postgres.fields
from django.db import migrations, models

import reliability.models.ids


class Migration(migrations.Migration):
    dependencies = [("reliability", "0027_local_fault_result")]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("tenant", models.TextField(blank=True, default="")),
                ("operation", models.TextField()),
                ("key", models.TextField()),
                ("digest", models.BinaryField(max_length=32)),
                (
                    "row_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), blank=True, default=list, size=None
                    ),
                ),
                ("status", models.IntegerField(default=200)),
                ("answer", models.JSONField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "ordering": ("-id",),
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "operation", "key"), name="idempotency_key_once")
                ],
            },
        ),
    ]
