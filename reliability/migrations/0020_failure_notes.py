"""A transaction's notes of failures are applied once, however many there are.

Each note set the trigger off, and each time it passed by all that were gone already. Now a transaction that has notes
leaves one row besides (`backstop_failure_due`), and that one sets it off.

The table of dead letters is locked meanwhile, for the moment that this takes: who had begun to note by the old rule
would not be heard by the new one.
"""

from importlib import import_module

from django.db import migrations

former = import_module("reliability.migrations.0011_failure_groups")

LOCK = "LOCK TABLE reliability_deadletter IN SHARE ROW EXCLUSIVE MODE"
# One row a transaction that has notes: what is due when it commits.
DUE = "CREATE TABLE backstop_failure_due (xact xid8 PRIMARY KEY)"
# As before, but for two things: the row that is due, and one note for all the minutes in which nobody died anew.
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
        GROUP BY workflow_id, lane_id, fingerprint, reason,
            CASE WHEN died > 0 THEN date_trunc('minute', died_at) END;
    END IF;
    IF FOUND THEN
        INSERT INTO backstop_failure_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$
"""

# All the notes of a transaction are applied at once.
APPLY = """
CREATE OR REPLACE FUNCTION backstop_apply_failures() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_notes backstop_failure_change[];
BEGIN
    WITH gone AS (DELETE FROM backstop_failure_change c WHERE c.xact = pg_current_xact_id() RETURNING c)
        SELECT array_agg(gone.c) INTO v_notes FROM gone;
    DELETE FROM backstop_failure_due WHERE xact = pg_current_xact_id();
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

AT_COMMIT = """
CREATE CONSTRAINT TRIGGER backstop_failure_apply AFTER INSERT ON backstop_failure_due
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION backstop_apply_failures()
"""
NO_APPLY = "DROP TRIGGER backstop_failure_apply ON backstop_failure_due"


class Migration(migrations.Migration):
    dependencies = [("reliability", "0019_housekeeping")]

    operations = [
        migrations.RunSQL(
            [LOCK, DUE, NOTE, former.NO_APPLY, APPLY, AT_COMMIT],
            [LOCK, NO_APPLY, former.NOTE, former.APPLY, former.AT_COMMIT, "DROP TABLE backstop_failure_due"],
        ),
    ]
