-- Records a Stripe event with the deliveries that it leads to; a repeat is counted. `reliability.stripe.ledger`
-- calls it.
--
-- In SQL, since the event's row, each delivery and its wake-up have to commit together, in one statement. Of two
-- sessions that record one event at once, the second waits at the unique constraint, then finds the first one's row.
CREATE OR REPLACE FUNCTION backstop_record_stripe_event(
    p_id uuid, p_endpoint uuid, p_secret uuid, p_account text, p_livemode boolean, p_event text, p_type text,
    p_api_version text, p_object text, p_occurred timestamptz, p_payload text, p_source text, p_ping boolean,
    OUT result text, OUT missing uuid[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_digest bytea;
    v_endpoint record;
    v_account text;
    v_event uuid;
    v_ignored text := '';
    v_stale boolean := false;
    v_slugs text[] := '{}';
    v_ids uuid[] := '{}';
    v_accepted boolean;
BEGIN
    IF EXISTS (SELECT 1 FROM reliability_flag WHERE name = 'stripe' AND NOT enabled) THEN
        result := 'off';
        RETURN;
    END IF;
    SELECT tenant, mode, account, enabled INTO v_endpoint FROM reliability_stripeendpoint WHERE id = p_endpoint;
    IF NOT FOUND OR NOT v_endpoint.enabled THEN
        result := 'closed';
        RETURN;
    END IF;
    IF p_secret IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM reliability_stripesecret WHERE id = p_secret AND active) THEN
        result := 'retired';  -- the caller's cache of the secrets is out of date
        RETURN;
    END IF;
    v_account := coalesce(nullif(p_account, ''), v_endpoint.account);
    SELECT id INTO v_event FROM reliability_stripeevent
        WHERE event_id = p_event AND tenant = v_endpoint.tenant AND account = v_account AND livemode = p_livemode;
    IF NOT FOUND THEN
        IF p_ping THEN
            v_ignored := 'ping';
        ELSIF v_endpoint.mode <> 'any' AND (v_endpoint.mode = 'live') <> p_livemode THEN
            v_ignored := 'mode';
        ELSE
            -- In the order of `reliability.core.lock_order`: by slug, whatever the database's collation is.
            SELECT coalesce(array_agg(slug ORDER BY slug COLLATE "C"), '{}'),
                    coalesce(array_agg(backstop_uuid7()), '{}'),
                    array_agg(id) FILTER (WHERE NOT EXISTS (SELECT 1 FROM reliability_lane
                        WHERE workflow_id = w.id AND tenant = v_endpoint.tenant))
                INTO v_slugs, v_ids, missing FROM reliability_workflow w
                WHERE stripe_events <> '{}' AND backstop_match_event_type(stripe_events, p_type);
            IF missing IS NOT NULL THEN
                result := 'lanes';  -- the caller opens them, and calls again
                RETURN;
            END IF;
            v_stale := p_object <> '' AND EXISTS (SELECT 1 FROM reliability_stripeevent
                WHERE object_id = p_object AND tenant = v_endpoint.tenant AND occurred_at > p_occurred
                    AND account = v_account AND livemode = p_livemode);
        END IF;
        INSERT INTO reliability_stripeevent (id, endpoint_id, secret_id, tenant, account, livemode, event_id, type,
                api_version, object_id, occurred_at, received_at, source, stale, ignored, delivery_ids, payload)
            VALUES (p_id, p_endpoint, p_secret, v_endpoint.tenant, v_account, p_livemode, p_event, p_type,
                p_api_version, p_object, p_occurred, v_now, p_source, v_stale, v_ignored, v_ids, p_payload)
            ON CONFLICT DO NOTHING RETURNING id INTO v_event;
        IF v_event IS NOT NULL THEN
            v_digest := sha256(convert_to(p_payload, 'UTF8'));
            FOR n IN 1..cardinality(v_slugs) LOOP
                -- Two events are never the same payload, so a lane that skips unchanged ones has nothing to compare.
                SELECT accepted INTO v_accepted FROM backstop_accept(v_ids[n], v_slugs[n], v_endpoint.tenant, p_event,
                    p_payload, v_digest, v_now, NULL, 'stripe', v_stale, true, v_now);
                IF NOT v_accepted THEN
                    -- The event's id was used as a key before. The event is delivered all the same, under a longer key.
                    PERFORM backstop_accept(v_ids[n], v_slugs[n], v_endpoint.tenant, p_event || ':' || p_id,
                        p_payload, v_digest, v_now, NULL, 'stripe', v_stale, true, v_now);
                END IF;
            END LOOP;
            result := 'new';
            RETURN;
        END IF;
        SELECT id INTO v_event FROM reliability_stripeevent
            WHERE event_id = p_event AND tenant = v_endpoint.tenant AND account = v_account AND livemode = p_livemode;
    END IF;
    INSERT INTO reliability_striperepeat (event_id, received_at) VALUES (v_event, v_now);
    result := 'repeat';
END $$;
