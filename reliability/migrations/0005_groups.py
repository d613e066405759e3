"""Three groups to begin with: viewers, operators and leads. An installation may change, rename or delete them."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWED = (
    *("workflow", "lane", "breaker", "breakertransition", "slot", "flag"),
    *("delivery", "attempt", "deadletter", "archive", "operation", "execution", "executionretry", "failurereport"),
    *("stripeendpoint", "stripesecret", "stripeevent", "striperepeat", "striperefusal", "stripeclaim"),
    *("rollup", "deathrollup", "failuregroup", "alert", "alertsilence", "alertnotice", "apikey", "auditentry"),
)
VIEWER = tuple(f"view_{model}" for model in VIEWED)
OPERATOR = (
    *VIEWER,
    *("pause_workflow", "switch_flag", "reset_breaker", "cancel_delivery", "send_now_delivery"),
    *("replay_deadletter", "export_deadletter", "control_operation"),
    *("acknowledge_alert", "silence_alert", "add_alertsilence", "end_alertsilence"),
)
LEAD = (
    *OPERATOR,
    *("add_workflow", "change_workflow", "change_lane", "force_open_breaker", "edit_deadletter", "purge_deadletter"),
    *("add_stripeendpoint", "change_stripeendpoint", "change_stripesecret", "add_apikey", "revoke_apikey"),
    *("view_failedsignin", "unlock_failedsignin"),
)
GROUPS = {"viewers": VIEWER, "operators": OPERATOR, "leads": LEAD}


def grant(apps, schema_editor):
    """Create the groups. A group of that name that exists already keeps its permissions.

    Django creates permissions after the last migration, which is too late here, so they are created first.
    """
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
        ("reliability", "0004_sql"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(grant, remove)]
