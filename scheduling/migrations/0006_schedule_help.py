"""The help of a job's schedule names the dialects that it takes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0005_console_indexes")]

    operations = [
        migrations.AlterField(
            "cronjob",
            "schedule",
            models.TextField(
                blank=True,
                default="",
                help_text="A cron expression, such as '0 9 * * MON', '@daily' or, with seconds, '30 0 9 * * 1'.",
            ),
        ),
    ]
