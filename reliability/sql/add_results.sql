-- Adds what one turn of a lane settled to the lane's total, its minute and its hour.
--
-- The caller holds the lane's lock, so no two transactions ever update these rows at once, and the order in which
-- they are locked does not matter.
CREATE OR REPLACE FUNCTION backstop_add_results(
    p_lane integer, p_at timestamptz, p_delivered integer, p_dead integer, p_attempts integer, p_failures integer,
    p_retries integer, p_retries_delivered integer, p_results bigint[], p_durations bigint[], p_duration_ms bigint,
    p_latencies bigint[], p_latency_ms bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_lanetotal SET
        delivered = delivered + p_delivered, dead = dead + p_dead, retries = retries + p_retries,
        retries_delivered = retries_delivered + p_retries_delivered, results = backstop_add_arrays(results, p_results),
        durations = backstop_add_arrays(durations, p_durations), duration_ms = duration_ms + p_duration_ms,
        latencies = backstop_add_arrays(latencies, p_latencies), latency_ms = latency_ms + p_latency_ms
        WHERE lane_id = p_lane;
    -- After a lane's first turn its row exists, so UPDATE comes first.
    IF NOT FOUND THEN
        INSERT INTO reliability_lanetotal (lane_id, workflow_id, delivered, dead, retries, retries_delivered, results,
                durations, duration_ms, latencies, latency_ms)
            SELECT id, workflow_id, p_delivered, p_dead, p_retries, p_retries_delivered, p_results, p_durations,
                p_duration_ms, p_latencies, p_latency_ms
            FROM reliability_lane WHERE id = p_lane;
    END IF;
    INSERT INTO reliability_rollup AS r
        (grain, at, lane_id, delivered, dead, attempts, failures, retries, retries_delivered, latency)
    SELECT grain, date_trunc(grain, p_at, 'UTC'), p_lane, p_delivered, p_dead, p_attempts, p_failures, p_retries,
        p_retries_delivered, p_latencies::int[]
    FROM unnest(ARRAY['minute', 'hour']) AS grain
    ON CONFLICT (grain, at, lane_id) DO UPDATE SET
        delivered = r.delivered + excluded.delivered, dead = r.dead + excluded.dead,
        attempts = r.attempts + excluded.attempts, failures = r.failures + excluded.failures,
        retries = r.retries + excluded.retries,
        retries_delivered = r.retries_delivered + excluded.retries_delivered,
        latency = backstop_add_arrays(r.latency, excluded.latency)::int[];
END $$;
