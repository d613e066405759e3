-- Wakes a lane now: makes sure that a dispatcher looks at it after this transaction commits. Never waits.
--
-- It inserts nothing where a dispatcher is attending the lane or a wake-up is waiting. Both may be relied on only
-- under the lane's shared lock, which this transaction keeps to its end (see `reliability.queue`).
CREATE OR REPLACE FUNCTION backstop_wake(p_lane integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'lane:' || p_lane;
BEGIN
    IF pg_try_advisory_xact_lock_shared(1112757840, p_lane) THEN
        IF EXISTS (SELECT 1 FROM reliability_lane WHERE id = p_lane AND attended_until > clock_timestamp()) THEN
            RETURN;
        END IF;
        IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
            RETURN;
        END IF;
    END IF;
    -- Without the locks, a wake-up of this transaction's own: waiting for the others could hold up every lane.
    IF NOT backstop_try_lock_wake(p_lane) THEN
        v_key := 'lane-own:' || p_lane || ':' || pg_current_xact_id();
        IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
            RETURN;
        END IF;
    END IF;
    BEGIN
        PERFORM backstop_defer_wake(p_lane, v_key, NULL);
    EXCEPTION WHEN unique_violation THEN
        RETURN;  -- another transaction's wake-up has committed since, and serves both
    END;
    -- A second wake-up, in case the worker that takes the first one dies.
    PERFORM backstop_wake_at(p_lane, clock_timestamp() + interval '60 seconds');
END $$;
