"""Leads may see failed sign-ins, and let those in again who were locked out."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

CODENAMES = ("view_accessattempt", "unlock_accessattempt")


def grant(apps, schema_editor):
    alias = schema_editor.connection.alias
    create_permissions(installed.get_app_config("axes"), verbosity=0, using=alias)
    kind = (
        apps.get_model("contenttypes", "ContentType").objects.using(alias).get(app_label="axes", model="accessattempt")
    )
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    permissions.get_or_create(
        content_type=kind, codename="unlock_accessattempt", defaults={"name": "Can unlock sign-ins"}
    )
    for group in apps.get_model("auth", "Group").objects.using(alias).filter(name="leads"):
        group.permissions.add(*permissions.filter(content_type=kind, codename__in=CODENAMES))


def revoke(apps, schema_editor):
    alias = schema_editor.connection.alias
    permissions = apps.get_model("auth", "Permission").objects.using(alias).filter(content_type__app_label="axes")
    for group in apps.get_model("auth", "Group").objects.using(alias).filter(name="leads"):
        group.permissions.remove(*permissions.filter(codename__in=CODENAMES))
    permissions.filter(codename="unlock_accessattempt").delete()


class Migration(migrations.Migration):
    dependencies = [("reliability", "0012_bulk"), ("axes", "0010_accessattemptexpiration")]

    operations = [migrations.RunPython(grant, revoke)]
