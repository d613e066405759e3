-- Wakes a bulk operation at `p_at`, with a second wake-up 5 seconds later in case the worker of the first dies.
--
-- There is one waiting job for each key; one that is planned later is moved. Five tries, since another transaction
-- may plan or take the job between the look and the write.
CREATE OR REPLACE FUNCTION backstop_wake_operation_by_key(p_operation uuid, p_key text, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_start timestamptz := p_at - interval '2 seconds';
    v_args jsonb := jsonb_build_object('operation_id', p_operation, 'at', extract(epoch FROM p_at));
    v_planned timestamptz;
BEGIN
    FOR attempt IN 1..5 LOOP
        SELECT coalesce(scheduled_at, '-infinity') INTO v_planned FROM procrastinate_jobs
            WHERE queueing_lock = p_key AND status = 'todo';
        IF FOUND THEN
            IF v_planned <= v_start THEN
                RETURN;
            END IF;
            UPDATE procrastinate_jobs SET scheduled_at = v_start, args = v_args
                WHERE queueing_lock = p_key AND status = 'todo' AND scheduled_at > v_start;
            IF FOUND THEN
                IF v_start <= clock_timestamp() THEN
                    -- Procrastinate notifies workers of inserts only, so send the messages of its insert trigger.
                    PERFORM pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted", "job_id": 0}');
                    PERFORM pg_notify('procrastinate_queue_v1#operation', '{"type": "job_inserted", "job_id": 0}');
                END IF;
                RETURN;
            END IF;
        ELSE
            BEGIN
                PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
                    'operation', 'operate', 0, NULL, p_key, v_args, v_start
                )::procrastinate_job_to_defer_v1]);
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                NULL;  -- planned by another transaction just now: compare with that one
            END;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION backstop_wake_operation_standby(p_operation uuid, p_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT backstop_wake_operation_by_key(
        p_operation, 'operation-stand-by:' || p_operation, p_at + interval '5 seconds')
$$;

CREATE OR REPLACE FUNCTION backstop_wake_operation(p_operation uuid, p_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT backstop_wake_operation_by_key(p_operation, 'operation:' || p_operation, p_at),
        backstop_wake_operation_standby(p_operation, p_at)
$$;
