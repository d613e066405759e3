-- Inserts a ping's row. A run that was started by hand has no address, and no ping.
CREATE OR REPLACE FUNCTION backstop_insert_ping(
    p_job uuid, p_result text, p_run uuid, p_address text, p_elapsed_ms double precision
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO scheduling_ping (job_id, at, result, run_id, address, duration_ms)
    SELECT p_job, clock_timestamp(), p_result, p_run, p_address,
        round(p_elapsed_ms + extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)
    WHERE p_address IS NOT NULL  -- a run by hand is no ping
$$;
