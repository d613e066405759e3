CREATE OR REPLACE FUNCTION backstop_record_failure_changes() RETURNS trigger LANGUAGE plpgsql AS $$
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
END $$;

CREATE OR REPLACE FUNCTION backstop_reset_failure_groups() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_failuregroup SET dead = 0 WHERE dead <> 0;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS backstop_failure_delete ON reliability_deadletter;
CREATE TRIGGER backstop_failure_delete
    AFTER DELETE ON reliability_deadletter
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_failure_changes();

DROP TRIGGER IF EXISTS backstop_failure_insert ON reliability_deadletter;
CREATE TRIGGER backstop_failure_insert
    AFTER INSERT ON reliability_deadletter
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_failure_changes();

DROP TRIGGER IF EXISTS backstop_failure_update ON reliability_deadletter;
CREATE TRIGGER backstop_failure_update
    AFTER UPDATE ON reliability_deadletter
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_failure_changes();

CREATE OR REPLACE TRIGGER backstop_failure_truncate
    AFTER TRUNCATE ON reliability_deadletter
    FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_reset_failure_groups();
