-- The outbox: what triggers count is collected in `backstop_outbox`, and applied once, when the transaction commits.
--
-- Counted at once, a row of a group or a total would stay locked until the transaction ends, in whatever order the
-- transaction happened to touch them: every other writer would wait, and two could deadlock. At commit, a transaction
-- applies all its changes in one order (groups, deaths, totals, each by its key), and the locks last a moment only.
-- A transaction that rolls back takes its changes along.
--
-- Whoever reads a group or a total that its own transaction changed executes `SET CONSTRAINTS backstop_outbox_apply
-- IMMEDIATE` first.
CREATE OR REPLACE FUNCTION backstop_apply_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_changes backstop_outbox[];
BEGIN
    WITH taken AS (DELETE FROM backstop_outbox o WHERE o.xact = pg_current_xact_id() RETURNING o)
        SELECT array_agg(taken.o) INTO v_changes FROM taken;
    DELETE FROM backstop_outbox_due WHERE xact = pg_current_xact_id();

    INSERT INTO reliability_failuregroup AS g
        (id, workflow_id, fingerprint, reason, code, message, dead, seen, first_at, last_at)
    SELECT gen_random_uuid(), workflow_id, fingerprint, max(reason), max(code), max(message),
        sum(dead), sum(seen), min(first_at), max(last_at)
    FROM unnest(v_changes) WHERE kind = 'failure' AND fingerprint <> ''
    -- ORDER BY is the lock order: the rows are locked one by one, as they arrive.
    GROUP BY workflow_id, fingerprint ORDER BY workflow_id, fingerprint
    -- A change without a reason only counts down: its message and times are not those of a new failure.
    ON CONFLICT (workflow_id, fingerprint) DO UPDATE SET
        dead = g.dead + excluded.dead, seen = g.seen + excluded.seen,
        message = CASE WHEN excluded.reason <> '' AND excluded.last_at >= g.last_at
            THEN excluded.message ELSE g.message END,
        first_at = CASE WHEN excluded.reason <> '' THEN least(g.first_at, excluded.first_at) ELSE g.first_at END,
        last_at = CASE WHEN excluded.reason <> '' THEN greatest(g.last_at, excluded.last_at) ELSE g.last_at END;

    INSERT INTO reliability_deathrollup AS r (grain, at, lane_id, reason, count)
    SELECT grain, at, lane_id, reason, sum(died)
    FROM unnest(v_changes), LATERAL (VALUES ('hour', date_trunc('hour', last_at, 'UTC')),
        ('minute', date_trunc('minute', last_at, 'UTC'))) AS t(grain, at)
    WHERE kind = 'failure' AND died > 0
    GROUP BY grain, at, lane_id, reason ORDER BY grain, at, lane_id, reason
    ON CONFLICT (grain, at, lane_id, reason) DO UPDATE SET count = r.count + excluded.count;

    INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
    SELECT name, key, lane_id, label, pg_backend_pid() % 16, sum(count)
    FROM unnest(v_changes) WHERE kind = 'total'
    GROUP BY name, key, lane_id, label HAVING sum(count) <> 0 ORDER BY name, key, lane_id, label
    ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
    RETURN NULL;
END $$;

-- One row a transaction: set off by each change, the deferred trigger would run as often as there are changes.
CREATE OR REPLACE FUNCTION backstop_mark_outbox_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A statement that inserted nothing sets off its triggers, too.
    IF EXISTS (SELECT 1 FROM added) THEN
        INSERT INTO backstop_outbox_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS backstop_outbox_due ON backstop_outbox;
CREATE TRIGGER backstop_outbox_due
    AFTER INSERT ON backstop_outbox
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_mark_outbox_due();

DROP TRIGGER IF EXISTS backstop_outbox_apply ON backstop_outbox_due;
CREATE CONSTRAINT TRIGGER backstop_outbox_apply
    AFTER INSERT ON backstop_outbox_due
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION backstop_apply_outbox();
