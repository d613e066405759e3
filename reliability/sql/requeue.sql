-- Leaves a wake-up for a lane that the dispatcher could not leave cleanly; its worker passes the barrier instead.
CREATE OR REPLACE FUNCTION backstop_requeue(p_lane integer, p_wait interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_defer_wake(p_lane, 'lane-again:' || p_lane, clock_timestamp() + p_wait);
EXCEPTION WHEN unique_violation THEN
    RETURN;  -- one that waits already serves
END $$;
