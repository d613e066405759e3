-- Inserts the job of a built-in cron job (`cleanup`, `alerts`); false where one is waiting already.
CREATE OR REPLACE FUNCTION backstop_defer_routine(p_name text, p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'routine:' || p_name;
BEGIN
    IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
        RETURN false;  -- one that waits already does the work
    END IF;
    PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
        'operation', 'routine', 0, NULL, v_key, jsonb_build_object('name', p_name, 'run_id', p_run), NULL
    )::procrastinate_job_to_defer_v1]);
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RETURN false;
END $$;
