CREATE OR REPLACE FUNCTION backstop_record_dead_letter_totals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT note.name, l.workflow_id, l.id, note.label, count(*) FROM after n
            JOIN reliability_lane l ON l.id = n.lane_id,
            LATERAL (VALUES ('letters', n.status), ('deaths', n.reason)) AS note(name, label)
        WHERE note.name = 'letters' OR n.status = 'dead' GROUP BY 1, 2, 3, 4;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'letters', l.workflow_id, l.id, o.status, -count(*) FROM before o
            JOIN reliability_lane l ON l.id = o.lane_id GROUP BY 2, 3, 4;
    ELSE
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT change.name, l.workflow_id, l.id, change.label, sum(change.count) FROM (
            SELECT note.name, note.lane_id, note.label, note.count FROM before o JOIN after n ON n.id = o.id,
                LATERAL (VALUES ('letters', o.lane_id, o.status, -1), ('letters', n.lane_id, n.status, 1))
                    AS note(name, lane_id, label, count)
            WHERE (n.status, n.lane_id) IS DISTINCT FROM (o.status, o.lane_id)
            UNION ALL
            SELECT 'deaths', n.lane_id, n.reason, 1 FROM before o JOIN after n ON n.id = o.id
            WHERE n.status = 'dead' AND n.died_at <> o.died_at
        ) AS change JOIN reliability_lane l ON l.id = change.lane_id GROUP BY 1, 2, 3, 4;
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'expired', '', 0, '', count(*) FROM before o JOIN after n ON n.id = o.id
        WHERE n.status = 'archived' AND o.status <> 'archived'
            AND n.id::text NOT LIKE '%-7de0-8de0-%' HAVING count(*) > 0;  -- the demo's never were
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_reset_dead_letter_totals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM reliability_total WHERE name = 'letters';
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_ended_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'ended', workflow_id, id, NEW.state, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_execution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'executions', workflow_id, id, NEW.status, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_breaker_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'transitions', coalesce(l.workflow_id::text, ''), coalesce(l.id, 0), NEW.to_state, 1
        FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id WHERE b.id = NEW.breaker_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_mark_totals_dirty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_failure_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    INSERT INTO backstop_total_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS backstop_total_delete ON reliability_deadletter;
CREATE TRIGGER backstop_total_delete
    AFTER DELETE ON reliability_deadletter
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_totals();

DROP TRIGGER IF EXISTS backstop_total_insert ON reliability_deadletter;
CREATE TRIGGER backstop_total_insert
    AFTER INSERT ON reliability_deadletter
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_totals();

DROP TRIGGER IF EXISTS backstop_total_update ON reliability_deadletter;
CREATE TRIGGER backstop_total_update
    AFTER UPDATE ON reliability_deadletter
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_totals();

CREATE OR REPLACE TRIGGER backstop_total_truncate
    AFTER TRUNCATE ON reliability_deadletter
    FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_reset_dead_letter_totals();

CREATE OR REPLACE TRIGGER backstop_total_ended
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (((new.state = ANY (ARRAY['cancelled'::text, 'skipped'::text])) AND (old.state <> new.state)))
    EXECUTE FUNCTION backstop_record_ended_delivery();

CREATE OR REPLACE TRIGGER backstop_total_execution
    AFTER INSERT ON reliability_execution
    FOR EACH ROW
    EXECUTE FUNCTION backstop_record_execution();

CREATE OR REPLACE TRIGGER backstop_total_execution_again
    AFTER UPDATE OF status ON reliability_execution
    FOR EACH ROW WHEN ((new.status <> old.status))
    EXECUTE FUNCTION backstop_record_execution();

CREATE OR REPLACE TRIGGER backstop_total_transition
    AFTER INSERT ON reliability_breakertransition
    FOR EACH ROW
    EXECUTE FUNCTION backstop_record_breaker_transition();

CREATE OR REPLACE TRIGGER backstop_totals_dirty
    AFTER INSERT ON backstop_total_change
    FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_mark_totals_dirty();
