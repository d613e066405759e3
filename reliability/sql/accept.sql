-- Accepts one trigger: finds its lane, inserts the delivery and wakes the lane. `reliability.delivery.intake` calls
-- it.
--
-- In SQL, since intake has to be one statement and one transaction; plpgsql keeps the plans for the connection.
-- `accepted` is false where nothing was inserted: without `lane` the lane has to be opened first, with `skips` the
-- payload has to be compared with the last one first (unless `p_skipping` says that this was done), else the key was
-- used before.
CREATE OR REPLACE FUNCTION backstop_accept(
    p_id uuid, p_workflow text, p_tenant text, p_key text, p_payload text, p_digest bytea, p_due timestamptz,
    p_expires timestamptz, p_source text, p_stale boolean, p_skipping boolean, p_now timestamptz,
    OUT lane integer, OUT accepted boolean, OUT skips boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_kept uuid;
BEGIN
    SELECT l.id, coalesce(l.skip_unchanged, w.skip_unchanged, false) INTO lane, skips
        FROM reliability_workflow w JOIN reliability_lane l ON l.workflow_id = w.id
        WHERE w.slug = p_workflow AND l.tenant = p_tenant;
    accepted := false;
    IF lane IS NULL OR (skips AND NOT p_skipping) THEN
        RETURN;
    END IF;
    INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source,
            attempt_count, retries_used, due_at, created_at, expires_at, last_error, stale)
        VALUES (p_id, lane, p_key, p_payload, p_digest, 'pending', p_source,
            0, 0, p_due, p_now, p_expires, '', p_stale)
        -- The key was used before. A session that is inserting the same key is waited for, until it commits.
        ON CONFLICT DO NOTHING RETURNING id INTO v_kept;
    accepted := v_kept IS NOT NULL;
    -- In this transaction: a delivery without a wake-up, or a wake-up before its delivery can be seen, must not be.
    IF accepted AND p_due <= p_now THEN
        PERFORM backstop_wake(lane);
    ELSIF accepted THEN
        PERFORM backstop_wake_at(lane, p_due);
    END IF;
END $$;
