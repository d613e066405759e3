"""The index by which a request's deliveries are found; built beside the work on the table."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("reliability", "0022_request_ids")]

    operations = [
        AddIndexConcurrently(
            "delivery",
            models.Index(
                models.F("request_id"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("request_id", ""), _negated=True),
                name="delivery_by_request",
            ),
        ),
    ]
