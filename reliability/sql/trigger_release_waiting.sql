-- When a cron job's delivery ends, releases those that waited for it (`waits_for`), and wakes their lanes.
--
-- In the transaction that ends it, whoever does. Who makes a delivery wait locks the earlier one's row first (`FOR
-- NO KEY UPDATE`): either it sees that one ended, or this trigger sees the new one. The WHEN clause keeps all other
-- deliveries, which are nearly all, from calling the function.
CREATE OR REPLACE FUNCTION backstop_release_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_lane integer;
BEGIN
    FOR v_lane IN
        -- If the ended one still waited for another itself, those behind it now wait for that one.
        UPDATE reliability_delivery SET waits_for = NEW.waits_for WHERE waits_for = NEW.id RETURNING lane_id
    LOOP
        PERFORM backstop_wake(v_lane);
    END LOOP;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER backstop_release_waiting
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (
        NEW.source = 'cron' AND OLD.state IN ('pending', 'sending', 'awaiting_callback')
        AND NEW.state NOT IN ('pending', 'sending', 'awaiting_callback'))
    EXECUTE FUNCTION backstop_release_waiting();
