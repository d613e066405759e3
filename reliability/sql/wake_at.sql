-- Wakes a lane at `p_at`; a wake-up that is planned later is moved. Never waits for another transaction's.
--
-- A transaction that cannot get the locks writes a wake-up under a key of its own: one too many does no harm.
CREATE OR REPLACE FUNCTION backstop_wake_at(p_lane integer, p_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'lane-later:' || p_lane;
    v_start timestamptz := p_at - interval '2 seconds';
    v_args jsonb := jsonb_build_object('lane_id', p_lane, 'at', extract(epoch FROM p_at));
    v_planned timestamptz;
BEGIN
    IF pg_try_advisory_xact_lock_shared(1112757840, p_lane) THEN
        SELECT scheduled_at INTO v_planned FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo';
        IF FOUND AND v_planned <= v_start THEN
            RETURN;
        END IF;
    END IF;
    IF NOT backstop_try_lock_wake(p_lane) THEN
        v_key := 'lane-own-later:' || p_lane || ':' || pg_current_xact_id();
    END IF;
    FOR attempt IN 1..5 LOOP
        SELECT scheduled_at INTO v_planned FROM procrastinate_jobs
            WHERE queueing_lock = v_key AND status = 'todo';
        IF FOUND THEN
            IF v_planned <= v_start THEN
                RETURN;
            END IF;
            UPDATE procrastinate_jobs SET scheduled_at = v_start, args = v_args
                WHERE queueing_lock = v_key AND status = 'todo' AND scheduled_at > v_start;
            IF FOUND THEN
                IF v_start <= clock_timestamp() THEN
                    -- Procrastinate notifies workers of inserts only, so send the messages of its insert trigger.
                    PERFORM pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted", "job_id": 0}');
                    PERFORM pg_notify('procrastinate_queue_v1#dispatch', '{"type": "job_inserted", "job_id": 0}');
                END IF;
                RETURN;
            END IF;
        ELSE
            BEGIN
                PERFORM backstop_defer_wake(p_lane, v_key, p_at);
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                NULL;  -- planned by another transaction just now: compare with that one
            END;
        END IF;
    END LOOP;
END $$;
