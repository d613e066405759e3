"""The cron jobs that Backstop itself needs: clean-up and alerts."""

from django.db import migrations

NAMES = {
    "cleanup": "Clean-up: every retention rule",
    "alerts": "Alerts: look at how the cron jobs stand",
}


def create(apps, schema_editor):
    job = apps.get_model("scheduling", "CronJob")
    for slug, name in NAMES.items():
        job.objects.get_or_create(builtin=slug, defaults={"slug": slug, "name": name})


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0003_groups")]

    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
