"""Groups of failures and deaths by reason, kept by the database itself; kinds for the failures that are there.

Triggers on the dead letters note what each statement changes (`backstop_failure_change`); when the transaction
commits, its notes are added up and applied, groups in the order of their keys and then deaths in the order of
theirs. So the counts are exact however many act at once, a group's row is locked for the end of a commit only, and
no two transactions can wait for each other there. Who reads a group within the transaction that changed it says
`SET CONSTRAINTS backstop_failure_apply IMMEDIATE` first.

Each step can be run again where a run was broken off.
"""

from uuid import UUID

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models, transaction
from django.db.models import F, Q

from reliability.policies.error_codes import reason_of
from reliability.policies.fingerprint import TEXT_LIMIT, fingerprint_of

BATCH = 2000

TABLE = """
CREATE TABLE IF NOT EXISTS backstop_failure_change (
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
"""
INDEX = "CREATE INDEX IF NOT EXISTS backstop_failure_change_by_xact ON backstop_failure_change (xact)"

# What was, counts down; what is, counts up. An entry that only moves on (replaying, recovered) is still of its group.
# `died`: it is dead, and at a moment at which it was not before. A message is kept up to 500 characters.
NOTE = """
CREATE OR REPLACE FUNCTION backstop_note_failures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO backstop_failure_change
            (workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT l.workflow_id, n.lane_id, n.fingerprint, n.reason, min(n.error_code),
            max(left(n.error_message, 500)),
            count(*) FILTER (WHERE n.status = 'dead'), count(*), count(*) FILTER (WHERE n.status = 'dead'),
            min(n.died_at), max(n.died_at)
        FROM after n JOIN reliability_lane l ON l.id = n.lane_id
        GROUP BY l.workflow_id, n.lane_id, n.fingerprint, n.reason, date_trunc('minute', n.died_at);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO backstop_failure_change
            (workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT l.workflow_id, o.lane_id, o.fingerprint, '', '', '', -count(*), 0, 0, min(o.died_at), max(o.died_at)
        FROM before o JOIN reliability_lane l ON l.id = o.lane_id
        WHERE o.status = 'dead'
        GROUP BY l.workflow_id, o.lane_id, o.fingerprint;
    ELSE
        INSERT INTO backstop_failure_change
            (workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT workflow_id, lane_id, fingerprint, reason, min(code),
            max(left(message, 500)), sum(dead), sum(seen), sum(died), min(died_at), max(died_at)
        FROM (
            SELECT l.workflow_id, o.lane_id, o.fingerprint, '' AS reason, '' AS code, '' AS message,
                -(o.status = 'dead')::int AS dead, 0 AS seen, 0 AS died, o.died_at
            FROM before o JOIN after n ON n.id = o.id JOIN reliability_lane l ON l.id = o.lane_id
            WHERE o.status = 'dead'
                AND (n.status, n.fingerprint, n.lane_id) IS DISTINCT FROM (o.status, o.fingerprint, o.lane_id)
            UNION ALL
            SELECT l.workflow_id, n.lane_id, n.fingerprint, n.reason, n.error_code, n.error_message,
                CASE WHEN n.status = 'dead' AND (n.status, n.fingerprint, n.lane_id)
                    IS DISTINCT FROM (o.status, o.fingerprint, o.lane_id) THEN 1 ELSE 0 END,
                CASE WHEN (n.fingerprint, n.lane_id) IS DISTINCT FROM (o.fingerprint, o.lane_id) THEN 1 ELSE 0 END,
                CASE WHEN n.status = 'dead' AND n.died_at <> o.died_at THEN 1 ELSE 0 END, n.died_at
            FROM before o JOIN after n ON n.id = o.id JOIN reliability_lane l ON l.id = n.lane_id
            WHERE (n.fingerprint, n.lane_id) IS DISTINCT FROM (o.fingerprint, o.lane_id)
                OR n.status = 'dead' AND (o.status <> 'dead' OR n.died_at <> o.died_at)
        ) AS change
        GROUP BY workflow_id, lane_id, fingerprint, reason, date_trunc('minute', died_at);
    END IF;
    RETURN NULL;
END $$
"""

# The first note of a transaction applies all of its notes; the others find none left.
APPLY = """
CREATE OR REPLACE FUNCTION backstop_apply_failures() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_notes backstop_failure_change[];
BEGIN
    WITH gone AS (DELETE FROM backstop_failure_change c WHERE c.xact = pg_current_xact_id() RETURNING c)
        SELECT array_agg(gone.c) INTO v_notes FROM gone;
    IF v_notes IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO reliability_failuregroup AS g
        (id, workflow_id, fingerprint, reason, code, message, dead, seen, first_at, last_at)
    SELECT gen_random_uuid(), workflow_id, fingerprint, max(reason), max(code), max(message),
        sum(dead), sum(seen), min(first_at), max(last_at)
    FROM unnest(v_notes) WHERE fingerprint <> ''
    GROUP BY workflow_id, fingerprint ORDER BY workflow_id, fingerprint
    ON CONFLICT (workflow_id, fingerprint) DO UPDATE SET
        dead = g.dead + excluded.dead, seen = g.seen + excluded.seen,
        message = CASE WHEN excluded.reason <> '' AND excluded.last_at >= g.last_at
            THEN excluded.message ELSE g.message END,
        first_at = CASE WHEN excluded.reason <> '' THEN least(g.first_at, excluded.first_at) ELSE g.first_at END,
        last_at = CASE WHEN excluded.reason <> '' THEN greatest(g.last_at, excluded.last_at) ELSE g.last_at END;
    INSERT INTO reliability_deathrollup AS r (grain, at, lane_id, reason, count)
    SELECT grain, at, lane_id, reason, sum(died)
    FROM unnest(v_notes), LATERAL (VALUES ('hour', date_trunc('hour', last_at, 'UTC')),
        ('minute', date_trunc('minute', last_at, 'UTC'))) AS t(grain, at)
    WHERE died > 0
    GROUP BY grain, at, lane_id, reason ORDER BY grain, at, lane_id, reason
    ON CONFLICT (grain, at, lane_id, reason) DO UPDATE SET count = r.count + excluded.count;
    RETURN NULL;
END $$
"""
# A table that was emptied at once holds no dead ones.
EMPTY = """
CREATE OR REPLACE FUNCTION backstop_no_failures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_failuregroup SET dead = 0 WHERE dead <> 0;
    RETURN NULL;
END $$
"""
EVENTS = {
    "insert": "REFERENCING NEW TABLE AS after",
    "update": "REFERENCING OLD TABLE AS before NEW TABLE AS after",
    "delete": "REFERENCING OLD TABLE AS before",
}
TRIGGERS = [
    statement
    for event, tables in EVENTS.items()
    for statement in (
        f"DROP TRIGGER IF EXISTS backstop_failure_{event} ON reliability_deadletter",
        (
            f"CREATE TRIGGER backstop_failure_{event} AFTER {event} ON reliability_deadletter {tables}"
            " FOR EACH STATEMENT EXECUTE FUNCTION backstop_note_failures()"
        ),
    )
]
AT_ONCE = """
CREATE OR REPLACE TRIGGER backstop_failure_truncate AFTER TRUNCATE ON reliability_deadletter
    FOR EACH STATEMENT EXECUTE FUNCTION backstop_no_failures()
"""
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER backstop_failure_apply AFTER INSERT ON backstop_failure_change
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION backstop_apply_failures()
"""
NO_APPLY = "DROP TRIGGER IF EXISTS backstop_failure_apply ON backstop_failure_change"
DROP = [
    "DROP TRIGGER IF EXISTS backstop_failure_insert ON reliability_deadletter",
    "DROP TRIGGER IF EXISTS backstop_failure_update ON reliability_deadletter",
    "DROP TRIGGER IF EXISTS backstop_failure_delete ON reliability_deadletter",
    "DROP TRIGGER IF EXISTS backstop_failure_truncate ON reliability_deadletter",
    "DROP TABLE IF EXISTS backstop_failure_change",
    "DROP FUNCTION IF EXISTS backstop_note_failures(), backstop_apply_failures(), backstop_no_failures()",
]
# Rows that are counted up again and again find room on their own page.
ROOM = [
    "ALTER TABLE reliability_rollup SET (fillfactor = 50)",
    "ALTER TABLE reliability_deathrollup SET (fillfactor = 50)",
    "ALTER TABLE reliability_failuregroup SET (fillfactor = 50)",
]
UNKNOWN = [
    "DROP INDEX CONCURRENTLY IF EXISTS dead_letter_of_no_kind",
    "CREATE INDEX CONCURRENTLY dead_letter_of_no_kind ON reliability_deadletter (id) WHERE fingerprint = ''",
]
NEXT = """
SELECT id, error_code, left(error_message, %s) FROM reliability_deadletter WHERE fingerprint = '' AND id > %s
ORDER BY id LIMIT %s FOR NO KEY UPDATE
"""
KIND = """
UPDATE reliability_deadletter AS d SET reason = v.reason, fingerprint = v.fingerprint
FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS v(id, reason, fingerprint) WHERE d.id = v.id
"""


class AddIndex(AddIndexConcurrently):
    """Builds an index beside the work on its table; what a run that was broken off left of it goes first."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
        super().database_forwards(app_label, schema_editor, from_state, to_state)


def fill(apps, schema_editor):
    """Give every dead letter its kind, batch by batch; the triggers count them into their groups.

    What others hold at that moment is passed by, and taken one by one in the end: nobody waits in a circle.
    """
    for statement, size in ((f"{NEXT} SKIP LOCKED", BATCH), (NEXT, 1)):
        last = UUID(int=0)
        while last is not None:
            with transaction.atomic(using=schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
                last = fill_batch(cursor, statement, last, size)


def fill_batch(cursor, statement, last, size):
    """Fill up to `size` rows behind `last`; return the last of them, if there was one."""
    cursor.execute(statement, [TEXT_LIMIT, last, size])
    rows = cursor.fetchall()
    if not rows:
        return None
    kinds = [(pk, str(reason_of(code=code)), fingerprint_of(code=code, message=text)) for pk, code, text in rows]
    cursor.execute(KIND, [list(column) for column in zip(*kinds, strict=True)])
    return rows[-1][0]


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("reliability", "0010_console")]

    operations = [
        migrations.RunSQL([TABLE, INDEX, NOTE, APPLY, EMPTY, NO_APPLY, AT_COMMIT, *TRIGGERS, AT_ONCE], DROP),
        migrations.RunSQL(ROOM, migrations.RunSQL.noop),
        migrations.RunSQL(UNKNOWN, "DROP INDEX IF EXISTS dead_letter_of_no_kind"),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunSQL("DROP INDEX IF EXISTS dead_letter_of_no_kind", migrations.RunSQL.noop),
        AddIndex(
            "deadletter",
            models.Index(F("fingerprint"), F("status"), F("id").desc(), include=("lane",), name="dead_letter_by_print"),
        ),
        AddIndex(
            "deadletter",
            models.Index(F("reason"), F("status"), F("id").desc(), include=("lane",), name="dead_letter_by_reason"),
        ),
        AddIndex("deadletter", models.Index(F("source"), F("status"), F("id").desc(), name="dead_letter_by_source")),
        AddIndex(
            "deadletter",
            models.Index(F("execution_id"), name="dead_letter_by_execution", condition=~Q(execution_id="")),
        ),
    ]
