"""Three groups to begin with: who looks, who operates, who leads. An installation may change them freely."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWED = (
    *("apikey", "attempt", "auditentry", "breaker", "breakertransition", "deadletter", "delivery", "lane"),
    *("operation", "workflow"),
)
VIEWER = tuple(f"view_{model}" for model in VIEWED)
OPERATOR = (
    *VIEWER,
    *("replay_deadletter", "cancel_delivery", "send_now_delivery", "reset_breaker", "pause_workflow"),
)
LEAD = (
    *OPERATOR,
    *("edit_deadletter", "purge_deadletter", "force_open_breaker", "add_workflow", "change_workflow", "change_lane"),
    *("add_apikey", "revoke_apikey"),
)
GROUPS = {"viewers": VIEWER, "operators": OPERATOR, "leads": LEAD}


def make(apps, schema_editor):
    """Permissions are otherwise made after the last migration, so they are made here first."""
    create_permissions(installed.get_app_config("reliability"), verbosity=0, using=schema_editor.connection.alias)
    group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, codenames in GROUPS.items():
        made, created = group.objects.get_or_create(name=name)
        if created:
            wanted = permission.objects.filter(content_type__app_label="reliability", codename__in=codenames)
            made.permissions.set(wanted)


def remove(apps, schema_editor):
    apps.get_model("auth", "Group").objects.filter(name__in=GROUPS).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("reliability", "0003_accept"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make, remove)]
