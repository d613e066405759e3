"""Who may take dead letters out of the console as a file: operators and leads."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

GROUPS = {"operators": ("export_deadletter",), "leads": ("export_deadletter",)}
PERMISSIONS = [
    ("replay_deadletter", "Can replay dead letters"),
    ("edit_deadletter", "Can edit a payload and replay it"),
    ("purge_deadletter", "Can purge dead letters"),
    ("export_deadletter", "Can export dead letters"),
]


def grant(apps, schema_editor):
    """Permissions are otherwise made after the last migration, so they are made here first."""
    create_permissions(installed.get_app_config("reliability"), verbosity=0, using=schema_editor.connection.alias)
    for group, wanted in _groups(apps):
        group.permissions.add(*wanted)


def revoke(apps, schema_editor):
    for group, wanted in _groups(apps):
        group.permissions.remove(*wanted)


def _groups(apps):
    permission = apps.get_model("auth", "Permission").objects.filter(content_type__app_label="reliability")
    for group in apps.get_model("auth", "Group").objects.filter(name__in=GROUPS):
        yield group, permission.filter(codename__in=GROUPS[group.name])


class Migration(migrations.Migration):
    dependencies = [("reliability", "0013_console_groups")]

    operations = [
        migrations.AlterModelOptions(name="deadletter", options={"ordering": ("-id",), "permissions": PERMISSIONS}),
        migrations.RunPython(grant, revoke),
    ]
