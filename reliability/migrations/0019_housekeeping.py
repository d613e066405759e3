"""Archives of dead letters, and tables from which much is deleted vacuumed before they grow.

A table of ten million rows would by default be vacuumed once two million of them are dead. Of these tables, cleaning up
takes some thousands at a time, and their room is to be there for what comes in next.
"""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import reliability.models.ids

EMPTIED = (
    "reliability_delivery",
    "reliability_attempt",
    "reliability_deadletter",
    "reliability_execution",
    "reliability_failurereport",
    "reliability_stripeevent",
    "reliability_striperepeat",
    "reliability_rollup",
    "reliability_deathrollup",
)
OFTEN = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000"
AS_BEFORE = "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold"


class Migration(migrations.Migration):
    dependencies = [
        ("reliability", "0018_alerts"),
    ]

    operations = [
        migrations.CreateModel(
            name="Archive",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=reliability.models.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.TextField(help_text="Of both files, without what each ends in.", unique=True)),
                (
                    "state",
                    models.TextField(
                        choices=[("writing", "Writing"), ("kept", "Kept"), ("abandoned", "Abandoned")],
                        default="writing",
                    ),
                ),
                ("writer", models.TextField()),
                ("lease_until", models.DateTimeField()),
                ("created_at", models.DateTimeField()),
                ("kept_at", models.DateTimeField(blank=True, null=True)),
                ("letters", models.IntegerField(default=0)),
                ("size", models.BigIntegerField(default=0)),
                ("manifest", models.JSONField(default=dict)),
                (
                    "withdrawn",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), default=list, size=None
                    ),
                ),
                (
                    "restored",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), default=list, size=None
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "writing")), fields=("state",), name="archive_one_writes"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["writing", "kept", "abandoned"])), name="archive_state_known"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="deadletter",
            name="archive",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="dead_letters",
                to="reliability.archive",
            ),
        ),
        *(
            migrations.RunSQL(f"ALTER TABLE {table} SET ({OFTEN})", f"ALTER TABLE {table} RESET ({AS_BEFORE})")
            for table in EMPTIED
        ),
    ]
