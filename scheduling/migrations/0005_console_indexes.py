"""Indexes for what the console's lists of runs and pings filter by; built beside the work on their tables."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("scheduling", "0004_overlap_with_any_run"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="ping",
            index=models.Index(
                models.F("job"), models.OrderBy(models.F("id"), descending=True), name="cron_ping_newest"
            ),
        ),
        AddIndexConcurrently(
            model_name="ping",
            index=models.Index(
                models.F("result"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("result", "run"), _negated=True),
                name="cron_ping_by_result",
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                models.F("job"), models.OrderBy(models.F("id"), descending=True), name="cron_run_newest"
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                models.F("result"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("result", "accepted"), _negated=True),
                name="cron_run_by_result",
            ),
        ),
    ]
