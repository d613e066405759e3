"""The outboxes, the SQL functions and triggers, and how PostgreSQL stores the tables that change most."""

from django.db import migrations

from reliability.sql import install

# Tables without a model: triggers write them and the trigger at commit empties them (`sql/trigger_apply_changes.sql`).
# The `…_due` row is what sets off that trigger, once a transaction.
OUTBOXES = [
    """
    CREATE TABLE backstop_failure_change (
        xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
        workflow_id uuid NOT NULL,
        lane_id integer NOT NULL,
        fingerprint text NOT NULL,
        reason text NOT NULL,
        code text NOT NULL,
        message text NOT NULL,
        dead integer NOT NULL,
        seen integer NOT NULL,
        died integer NOT NULL,
        first_at timestamptz NOT NULL,
        last_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX backstop_failure_change_by_xact ON backstop_failure_change (xact)",
    "CREATE TABLE backstop_failure_due (xact xid8 PRIMARY KEY)",
    """
    CREATE TABLE backstop_total_change (
        xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
        name text NOT NULL,
        key text NOT NULL,
        lane_id integer NOT NULL,
        label text NOT NULL,
        count bigint NOT NULL
    )
    """,
    "CREATE INDEX backstop_total_change_by_xact ON backstop_total_change (xact)",
    "CREATE TABLE backstop_total_due (xact xid8 PRIMARY KEY)",
]
DROP_OUTBOXES = "DROP TABLE backstop_failure_change, backstop_failure_due, backstop_total_change, backstop_total_due"

# Counters are updated again and again. Half-empty pages let PostgreSQL keep each new row version on its page (HOT),
# so that no index has to be written.
COUNTERS = (
    *("reliability_rollup", "reliability_deathrollup", "reliability_failuregroup"),
    *("reliability_lanetotal", "reliability_total", "reliability_workerfigure"),
)
# By default, a table of ten million rows is vacuumed once two million of them are dead. Clean-up deletes some thousands
# at a time from these tables, and their space is to be free for the next rows.
EMPTIED = (
    *("reliability_delivery", "reliability_attempt", "reliability_deadletter", "reliability_execution"),
    *("reliability_failurereport", "reliability_stripeevent", "reliability_striperepeat"),
    *("reliability_rollup", "reliability_deathrollup"),
)
VACUUM = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000"
DEFAULTS = "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold"


class Migration(migrations.Migration):
    dependencies = [
        ("reliability", "0003_access_and_statistics"),
        # Wake-ups are rows of Procrastinate's, written by its function `procrastinate_defer_jobs_v1`.
        ("procrastinate", "0041_post_retry_failed_job"),
    ]

    operations = [
        migrations.RunSQL(OUTBOXES, DROP_OUTBOXES),
        install("reliability_0004"),
        *(
            migrations.RunSQL(f"ALTER TABLE {table} SET (fillfactor = 50)", f"ALTER TABLE {table} RESET (fillfactor)")
            for table in COUNTERS
        ),
        *(
            migrations.RunSQL(f"ALTER TABLE {table} SET ({VACUUM})", f"ALTER TABLE {table} RESET ({DEFAULTS})")
            for table in EMPTIED
        ),
    ]
