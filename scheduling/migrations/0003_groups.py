"""What the first groups may do with cron jobs. A group that an installation deleted is not created again."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWER = ("view_cronjob", "view_run", "view_ping")
OPERATOR = (*VIEWER, "run_cronjob", "enable_cronjob")
LEAD = (*OPERATOR, "add_cronjob", "change_cronjob")
GROUPS = {"viewers": VIEWER, "operators": OPERATOR, "leads": LEAD}


def grant(apps, schema_editor):
    """Django creates permissions after the last migration, which is too late here, so they are created first."""
    create_permissions(installed.get_app_config("scheduling"), verbosity=0, using=schema_editor.connection.alias)
    group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, codenames in GROUPS.items():
        wanted = permission.objects.filter(content_type__app_label="scheduling", codename__in=codenames)
        for found in group.objects.filter(name=name):
            found.permissions.add(*wanted)


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0002_sql"),
        ("reliability", "0005_groups"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
