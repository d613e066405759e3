CREATE OR REPLACE FUNCTION backstop_release_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_lane integer;
BEGIN
    FOR v_lane IN
        -- One that was held itself hands on whom it waited for.
        UPDATE reliability_delivery SET waits_for = NEW.waits_for WHERE waits_for = NEW.id RETURNING lane_id
    LOOP
        PERFORM backstop_wake(v_lane);
    END LOOP;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER backstop_release_waiting
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (((new.source = 'cron'::text) AND (old.state = ANY (ARRAY['pending'::text, 'sending'::text, 'awaiting_callback'::text])) AND (new.state <> ALL (ARRAY['pending'::text, 'sending'::text, 'awaiting_callback'::text]))))
    EXECUTE FUNCTION backstop_release_waiting();
