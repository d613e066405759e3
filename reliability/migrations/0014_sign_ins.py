"""Leads may see failed sign-ins, and let those in again who were locked out."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

GROUPS = {"leads": ("view_failedsignin", "unlock_failedsignin")}


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
    dependencies = [("reliability", "0012_bulk"), ("axes", "0010_accessattemptexpiration")]

    operations = [
        migrations.CreateModel(
            name="FailedSignIn",
            fields=[],
            options={
                "verbose_name": "failed sign-in",
                "permissions": [("unlock_failedsignin", "Can unlock sign-ins")],
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("axes.accessattempt",),
        ),
        migrations.RunPython(grant, revoke),
    ]
