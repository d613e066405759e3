-- Adds to a total at once, without the outbox: for Stripe's requests, which are many and change one total each.
--
-- A total has 16 shards, chosen by the session, so that concurrent sessions do not wait for one row.
CREATE OR REPLACE FUNCTION backstop_add_total(
    p_name text, p_key text, p_lane integer, p_label text, p_count bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_shard smallint := pg_backend_pid() % 16;
BEGIN
    -- UPDATE comes first: an upsert takes a value of the id's sequence every time.
    UPDATE reliability_total SET count = count + p_count
        WHERE name = p_name AND key = p_key AND lane_id = p_lane AND label = p_label AND shard = v_shard;
    IF NOT FOUND THEN
        INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
            VALUES (p_name, p_key, p_lane, p_label, v_shard, p_count)
            ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
    END IF;
END $$;
