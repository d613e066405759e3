"""The outbox, the SQL functions and triggers, and how PostgreSQL stores the tables that change most."""

from django.db import migrations

from reliability.sql import install

# Tables without a model: triggers fill them, and one trigger applies and empties them at commit
# (`sql/trigger_apply_outbox.sql`). A row of kind `failure` has the columns of a failure group, one of kind `total` has
# those of a total. A row of `backstop_outbox_due` stands for a transaction that has changes.
OUTBOX = [
    """
    CREATE TABLE backstop_outbox (
        xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
        kind text NOT NULL,
        lane_id integer NOT NULL,
        name text,
        key text,
        label text,
        count bigint,
        workflow_id uuid,
        fingerprint text,
        reason text,
        code text,
        message text,
        dead integer,
        seen integer,
        died integer,
        first_at timestamptz,
        last_at timestamptz,
        CONSTRAINT backstop_outbox_complete CHECK (CASE kind
            WHEN 'failure' THEN num_nulls(
                workflow_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at) = 0
            WHEN 'total' THEN num_nulls(name, key, label, count) = 0
            ELSE false END)
    )
    """,
    "CREATE INDEX backstop_outbox_by_xact ON backstop_outbox (xact)",
    "CREATE TABLE backstop_outbox_due (xact xid8 PRIMARY KEY)",
]
DROP_OUTBOX = "DROP TABLE backstop_outbox, backstop_outbox_due"

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
        migrations.RunSQL(OUTBOX, DROP_OUTBOX),
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
