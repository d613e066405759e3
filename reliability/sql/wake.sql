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
    -- If a worker dies with the wake-up in its hands, this one stands by.
    PERFORM backstop_wake_at(p_lane, clock_timestamp() + interval '60 seconds');
END $$;
