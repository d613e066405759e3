"""Name the result of an attempt that a fault of Backstop's own setup kept from being sent."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reliability", "0026_archives_shown")]

    operations = [
        migrations.AlterField(
            model_name="attempt",
            name="result",
            field=models.TextField(
                choices=[
                    ("delivered", "Delivered"),
                    ("instance_down", "Instance Down"),
                    ("transient", "Transient"),
                    ("unknown", "Unknown"),
                    ("misconfigured", "Misconfigured"),
                    ("misconfigured_locally", "Misconfigured Locally"),
                    ("rejected", "Rejected"),
                    ("interrupted", "Interrupted"),
                    ("callback_timeout", "Callback Timeout"),
                    ("reported_failed", "Reported Failed"),
                ]
            ),
        ),
    ]
