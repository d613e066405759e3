"""The first three groups may look at the list of archives. A renamed group is left as it is."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

GROUPS = dict.fromkeys(("viewers", "operators", "leads"), ("view_archive",))


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
    dependencies = [("reliability", "0025_callback_bound")]

    operations = [migrations.RunPython(grant, revoke)]
