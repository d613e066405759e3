-- Inserts a wake-up job for a lane, through Procrastinate's function; raises `unique_violation` if `p_key` is taken.
--
-- A job is made due 2 seconds early: the worker polls, and sleeps the rest (`reliability.queue.tasks.LEAD`).
CREATE OR REPLACE FUNCTION backstop_defer_wake(p_lane integer, p_key text, p_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        'dispatch', 'dispatch', 0, NULL, p_key,
        CASE WHEN p_at IS NULL THEN jsonb_build_object('lane_id', p_lane)
            ELSE jsonb_build_object('lane_id', p_lane, 'at', extract(epoch FROM p_at)) END,
        p_at - interval '2 seconds'
    )::procrastinate_job_to_defer_v1])
$$;
