"""What the first three groups may do with what comes in. An installation that renamed them is left as it is."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

SEEN = (
    *("stripeendpoint", "stripesecret", "stripeevent", "striperepeat", "striperefusal", "stripeclaim"),
    *("flag", "slot", "execution", "failurereport", "executionretry"),
)
VIEWER = tuple(f"view_{model}" for model in SEEN)
OPERATOR = (*VIEWER, "switch_flag")
LEAD = (*OPERATOR, "add_stripeendpoint", "change_stripeendpoint", "change_stripesecret")
GROUPS = {"viewers": VIEWER, "operators": OPERATOR, "leads": LEAD}


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
    dependencies = [("reliability", "0008_permits")]

    operations = [migrations.RunPython(grant, revoke)]
