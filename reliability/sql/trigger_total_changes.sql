-- Puts into the outbox what is counted in totals and is rare: ended deliveries, executions, breaker transitions.
--
-- Triggers, so that nothing is missed, whoever writes. What is frequent is counted by `add_results.sql`.
CREATE OR REPLACE FUNCTION backstop_record_ended_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'ended', workflow_id, id, NEW.state, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_execution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'executions', workflow_id, id, NEW.status, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_breaker_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The instance's breaker has no lane: key '' and lane 0.
    INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'transitions', coalesce(l.workflow_id::text, ''), coalesce(l.id, 0), NEW.to_state, 1
        FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id WHERE b.id = NEW.breaker_id;
    RETURN NULL;
END $$;

-- The WHEN clause keeps all other deliveries, which are nearly all, from calling the function.
CREATE OR REPLACE TRIGGER backstop_total_ended
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (NEW.state IN ('cancelled', 'skipped') AND OLD.state <> NEW.state)
    EXECUTE FUNCTION backstop_record_ended_delivery();

CREATE OR REPLACE TRIGGER backstop_total_execution
    AFTER INSERT ON reliability_execution
    FOR EACH ROW
    EXECUTE FUNCTION backstop_record_execution();

CREATE OR REPLACE TRIGGER backstop_total_execution_again
    AFTER UPDATE OF status ON reliability_execution
    FOR EACH ROW WHEN (NEW.status <> OLD.status)
    EXECUTE FUNCTION backstop_record_execution();

CREATE OR REPLACE TRIGGER backstop_total_transition
    AFTER INSERT ON reliability_breakertransition
    FOR EACH ROW
    EXECUTE FUNCTION backstop_record_breaker_transition();
