-- When a replay of a bulk operation ends, counts how, and wakes the operation if it waits for that.
--
-- The count is a row of the operation and the lane: the lane's lock orders these transactions anyway, so they do not
-- queue for the operation's own row. Of that row they take only a key share, which a step's own lock lets pass. A
-- step that is about to wait for the ends takes the full lock (`bulk.steps`): either it sees this end, or this end
-- sees it waiting.
CREATE OR REPLACE FUNCTION backstop_count_operation_result(
    p_operation uuid, p_lane integer, p_recovered integer, p_failed integer, p_withdrawn integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_waits boolean;
BEGIN
    IF p_recovered = 0 AND p_failed = 0 AND p_withdrawn = 0 THEN
        RETURN;
    END IF;
    INSERT INTO reliability_operationtally AS t (operation_id, lane_id, recovered, failed, withdrawn)
        VALUES (p_operation, p_lane, p_recovered, p_failed, p_withdrawn)
        ON CONFLICT (operation_id, lane_id) DO UPDATE SET recovered = t.recovered + excluded.recovered,
            failed = t.failed + excluded.failed, withdrawn = t.withdrawn + excluded.withdrawn;
    SELECT state = 'running' AND next_at IS NULL INTO v_waits FROM reliability_operation
        WHERE id = p_operation FOR KEY SHARE;
    IF v_waits THEN
        PERFORM backstop_wake_operation(p_operation, clock_timestamp());
    END IF;
END $$;

CREATE OR REPLACE FUNCTION backstop_count_operation_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_count_operation_result(NEW.operation_id, NEW.lane_id,
        (NEW.state = 'delivered')::int - (OLD.state = 'delivered')::int,
        (NEW.state = 'dead')::int - (OLD.state = 'dead')::int,
        (NEW.state IN ('cancelled', 'skipped'))::int - (OLD.state IN ('cancelled', 'skipped'))::int);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_count_operation_retry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_count_operation_result(NEW.operation_id, l.lane_id,
        (NEW.state = 'succeeded')::int - (OLD.state = 'succeeded')::int,
        (NEW.state = 'failed')::int - (OLD.state = 'failed')::int, 0)
        FROM reliability_deadletter l WHERE l.id = NEW.dead_letter_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER backstop_operation_delivery
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (NEW.operation_id IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION backstop_count_operation_delivery();

CREATE OR REPLACE TRIGGER backstop_operation_retry
    AFTER UPDATE OF state ON reliability_executionretry
    FOR EACH ROW WHEN (NEW.operation_id IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION backstop_count_operation_retry();
