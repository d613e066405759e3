"""Alerts, quiet periods, and what people are told; the first three groups may see them, two may act."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

import reliability.models.ids

SEEN = ("view_alert", "view_alertsilence", "view_alertnotice")
DONE = ("acknowledge_alert", "silence_alert", "add_alertsilence", "end_alertsilence")
GROUPS = {"viewers": SEEN, "operators": (*SEEN, *DONE), "leads": (*SEEN, *DONE)}


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
    dependencies = [
        ("reliability", "0017_totals"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.TextField()),
                ("workflow", models.TextField(blank=True, default="")),
                ("tenant", models.TextField(blank=True, default="")),
                ("subject", models.TextField(blank=True, default="")),
                ("severity", models.TextField(choices=[("critical", "critical"), ("warning", "warning")])),
                (
                    "state",
                    models.TextField(choices=[("pending", "Pending"), ("firing", "Firing"), ("resolved", "Resolved")]),
                ),
                ("value", models.FloatField()),
                ("limit", models.FloatField()),
                ("summary", models.TextField(blank=True, default="")),
                ("pending_since", models.DateTimeField(blank=True, null=True)),
                ("firing_since", models.DateTimeField(blank=True, null=True)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("told", models.TextField(blank=True, default="")),
                ("told_at", models.DateTimeField(blank=True, null=True)),
                ("acknowledged", models.BooleanField(default=False)),
                ("acknowledged_until", models.DateTimeField(blank=True, null=True)),
                ("acknowledged_at", models.DateTimeField(blank=True, null=True)),
                ("acknowledged_by", models.TextField(blank=True, default="")),
                ("acknowledged_reason", models.TextField(blank=True, default="")),
                ("checked_at", models.DateTimeField()),
            ],
            options={
                "ordering": ("-id",),
                "permissions": [
                    ("acknowledge_alert", "Can acknowledge alerts"),
                    ("silence_alert", "Can silence alerts for a time"),
                ],
                "indexes": [
                    models.Index(
                        models.F("state"), models.OrderBy(models.F("id"), descending=True), name="alert_by_state"
                    ),
                    models.Index(
                        models.F("workflow"), models.OrderBy(models.F("id"), descending=True), name="alert_by_workflow"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("name", "workflow", "tenant", "subject"), name="alert_once"),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "firing", "resolved"])), name="alert_state_known"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AlertNotice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "channel",
                    models.TextField(choices=[("mail", "Mail"), ("webhook", "Webhook"), ("workflow", "Workflow")]),
                ),
                (
                    "state",
                    models.TextField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("sent", "Sent"),
                            ("superseded", "superseded: a later reminder says the same"),
                            ("dropped", "dropped: its channel is set up no longer"),
                        ],
                        default="waiting",
                    ),
                ),
                ("changes", models.JSONField(default=list)),
                (
                    "alert_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None),
                ),
                ("created_at", models.DateTimeField()),
                ("attempts", models.IntegerField(default=0)),
                ("next_at", models.DateTimeField()),
                ("lease_token", models.UUIDField(blank=True, editable=False, null=True)),
                ("lease_until", models.DateTimeField(blank=True, editable=False, null=True)),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                ("delivery_id", models.UUIDField(blank=True, null=True)),
                ("error", models.TextField(blank=True, default="")),
            ],
            options={
                "verbose_name": "notice",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(
                        models.F("next_at"), condition=models.Q(("state", "waiting")), name="alert_notice_waiting"
                    ),
                    django.contrib.postgres.indexes.GinIndex(fields=["alert_ids"], name="alert_notice_by_alert"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["waiting", "sent", "superseded", "dropped"])),
                        name="alert_notice_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("channel__in", ["mail", "webhook", "workflow"])),
                        name="alert_notice_channel_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AlertSilence",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "alert",
                    models.TextField(
                        blank=True,
                        choices=[
                            ("LightEndpointFailing", "LightEndpointFailing"),
                            ("LightEndpointNotPinged", "LightEndpointNotPinged"),
                            ("CronJobLate", "CronJobLate"),
                            ("BreakerOpen", "BreakerOpen"),
                            ("BreakerOpenLong", "BreakerOpenLong"),
                            ("BreakerFlapping", "BreakerFlapping"),
                            ("DeadLettersMany", "DeadLettersMany"),
                            ("DeadLettersGrowing", "DeadLettersGrowing"),
                            ("BacklogOld", "BacklogOld"),
                            ("SuccessRateLow", "SuccessRateLow"),
                            ("RetrySuccessLow", "RetrySuccessLow"),
                            ("SlotsExhausted", "SlotsExhausted"),
                            ("NoWorker", "NoWorker"),
                            ("StripeSignaturesFailing", "StripeSignaturesFailing"),
                            ("MemoryHigh", "MemoryHigh"),
                            ("CpuHigh", "CpuHigh"),
                        ],
                        default="",
                        help_text="Empty: all.",
                    ),
                ),
                ("workflow", models.TextField(blank=True, default="", help_text="A workflow's slug; empty: all.")),
                ("until", models.DateTimeField()),
                ("reason", models.TextField()),
                ("created_at", models.DateTimeField()),
                ("created_by", models.TextField()),
            ],
            options={
                "verbose_name": "quiet period",
                "ordering": ("-id",),
                "permissions": [("end_alertsilence", "Can end quiet periods")],
                "indexes": [
                    models.Index(models.OrderBy(models.F("until"), descending=True), name="alert_silence_by_end")
                ],
            },
        ),
        migrations.CreateModel(
            name="ProcessSample",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("cpu_seconds", models.FloatField()),
                ("share", models.FloatField(blank=True, null=True)),
                ("at", models.DateTimeField()),
            ],
            options={"ordering": ("name",)},
        ),
        migrations.RunPython(grant, revoke),
    ]
