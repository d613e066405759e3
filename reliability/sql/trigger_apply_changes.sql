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
END $$;

CREATE OR REPLACE FUNCTION backstop_apply_totals() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        v_notes backstop_total_change[];
    BEGIN
        WITH gone AS (DELETE FROM backstop_total_change c WHERE c.xact = pg_current_xact_id() RETURNING c)
            SELECT array_agg(gone.c) INTO v_notes FROM gone;
        DELETE FROM backstop_total_due WHERE xact = pg_current_xact_id();
        IF v_notes IS NOT NULL THEN
            INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
            SELECT name, key, lane_id, label, pg_backend_pid() % 16, sum(count) FROM unnest(v_notes)
            GROUP BY name, key, lane_id, label HAVING sum(count) <> 0 ORDER BY name, key, lane_id, label
            ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
        END IF;
        RETURN NULL;
    END $$;

DROP TRIGGER IF EXISTS backstop_failure_apply ON backstop_failure_due;
CREATE CONSTRAINT TRIGGER backstop_failure_apply
    AFTER INSERT ON backstop_failure_due
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION backstop_apply_failures();

DROP TRIGGER IF EXISTS backstop_total_apply ON backstop_total_due;
CREATE CONSTRAINT TRIGGER backstop_total_apply
    AFTER INSERT ON backstop_total_due
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION backstop_apply_totals();
