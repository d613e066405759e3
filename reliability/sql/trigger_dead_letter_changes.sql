-- Puts into the outbox what each statement changes in failure groups, deaths by reason, and totals of dead letters.
--
-- What was counts down, what is counts up. A dead letter that moves on (replaying, recovered) stays in its group, but
-- is not among its `dead` any more. `died` counts a death: it is dead, and at a moment at which it was not before.
-- Changes are added up by minute, since deaths are. A group's message keeps up to 500 characters.
--
-- Statement triggers, since bulk operations and clean-up change thousands of rows at once.
CREATE OR REPLACE FUNCTION backstop_record_dead_letter_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO backstop_outbox
            (kind, workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT 'failure', l.workflow_id, n.lane_id, n.fingerprint, n.reason, min(n.error_code),
            max(left(n.error_message, 500)),
            count(*) FILTER (WHERE n.status = 'dead'), count(*), count(*) FILTER (WHERE n.status = 'dead'),
            min(n.died_at), max(n.died_at)
        FROM after n JOIN reliability_lane l ON l.id = n.lane_id
        GROUP BY l.workflow_id, n.lane_id, n.fingerprint, n.reason, date_trunc('minute', n.died_at);
        INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', change.name, l.workflow_id, l.id, change.label, count(*) FROM after n
            JOIN reliability_lane l ON l.id = n.lane_id,
            LATERAL (VALUES ('letters', n.status), ('deaths', n.reason)) AS change(name, label)
        WHERE change.name = 'letters' OR n.status = 'dead' GROUP BY 2, 3, 4, 5;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO backstop_outbox
            (kind, workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT 'failure', l.workflow_id, o.lane_id, o.fingerprint, '', '', '', -count(*), 0, 0,
            min(o.died_at), max(o.died_at)
        FROM before o JOIN reliability_lane l ON l.id = o.lane_id
        WHERE o.status = 'dead'
        GROUP BY l.workflow_id, o.lane_id, o.fingerprint;
        INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'letters', l.workflow_id, l.id, o.status, -count(*) FROM before o
            JOIN reliability_lane l ON l.id = o.lane_id GROUP BY 3, 4, 5;
    ELSE
        INSERT INTO backstop_outbox
            (kind, workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT 'failure', workflow_id, lane_id, fingerprint, reason, min(code),
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
        -- The minute matters for deaths alone: without one, all changes of a group are one row.
        GROUP BY workflow_id, lane_id, fingerprint, reason,
            CASE WHEN died > 0 THEN date_trunc('minute', died_at) END;
        INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', change.name, coalesce(l.workflow_id::text, ''), change.lane_id, change.label, sum(change.count)
        FROM (
            SELECT moved.name, moved.lane_id, moved.label, moved.count FROM before o JOIN after n ON n.id = o.id,
                LATERAL (VALUES ('letters', o.lane_id, o.status, -1), ('letters', n.lane_id, n.status, 1))
                    AS moved(name, lane_id, label, count)
            WHERE (n.status, n.lane_id) IS DISTINCT FROM (o.status, o.lane_id)
            UNION ALL
            SELECT 'deaths', n.lane_id, n.reason, 1 FROM before o JOIN after n ON n.id = o.id
            WHERE n.status = 'dead' AND n.died_at <> o.died_at
            UNION ALL
            -- Of no lane (0). The demo's dead letters, whose ids have this pattern, do not count as expired.
            SELECT 'expired', 0, '', 1 FROM before o JOIN after n ON n.id = o.id
            WHERE n.status = 'archived' AND o.status <> 'archived' AND n.id::text NOT LIKE '%-7de0-8de0-%'
        ) AS change LEFT JOIN reliability_lane l ON l.id = change.lane_id GROUP BY 2, 3, 4, 5;
    END IF;
    RETURN NULL;
END $$;

-- TRUNCATE has no transition tables; after it, no dead letter is left. It does not use the outbox: it locks the whole
-- table anyway.
CREATE OR REPLACE FUNCTION backstop_reset_dead_letter_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_failuregroup SET dead = 0 WHERE dead <> 0;
    DELETE FROM reliability_total WHERE name = 'letters';
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS backstop_dead_letter_insert ON reliability_deadletter;
CREATE TRIGGER backstop_dead_letter_insert
    AFTER INSERT ON reliability_deadletter
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_changes();

DROP TRIGGER IF EXISTS backstop_dead_letter_update ON reliability_deadletter;
CREATE TRIGGER backstop_dead_letter_update
    AFTER UPDATE ON reliability_deadletter
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_changes();

DROP TRIGGER IF EXISTS backstop_dead_letter_delete ON reliability_deadletter;
CREATE TRIGGER backstop_dead_letter_delete
    AFTER DELETE ON reliability_deadletter
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_changes();

CREATE OR REPLACE TRIGGER backstop_dead_letter_truncate
    AFTER TRUNCATE ON reliability_deadletter
    FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_reset_dead_letter_counts();
