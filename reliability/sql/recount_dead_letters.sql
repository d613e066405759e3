-- Makes the totals of dead letters by status exact again, should they ever be wrong. Run it by hand.
--
-- Shard -1 holds the correction: what the table holds, less what all other shards say. Both are counted in one
-- snapshot, so writers need not stop.
CREATE OR REPLACE FUNCTION backstop_recount_dead_letters() RETURNS void LANGUAGE sql AS $$
    INSERT INTO reliability_total (name, key, lane_id, label, shard, count)
    SELECT 'letters', l.workflow_id, l.id, found.status, -1, sum(found.count) FROM (
        SELECT lane_id, status, count(*) AS count FROM reliability_deadletter GROUP BY 1, 2
        UNION ALL
        SELECT lane_id, label, -sum(count) FROM reliability_total
            WHERE name = 'letters' AND shard <> -1 GROUP BY 1, 2
    ) AS found JOIN reliability_lane l ON l.id = found.lane_id GROUP BY 2, 3, 4
    ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = excluded.count
$$;
