"""The SQL half of `reliability.stripe.ledger`: an event recorded, with the deliveries it leads to.

One function, since that is one statement and one transaction: the ledger's row, each delivery and its wake-up commit
together or not at all. A repeat finds the row, or waits for the transaction that is writing it.
"""

from django.db import migrations

UUID7 = """
CREATE FUNCTION backstop_uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    -- RFC 9562, 5.7: 48 bits of milliseconds, the version, 74 random bits. A random UUID lends the rest.
    SELECT encode(set_byte(
        substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            || substring(random FROM 7),
        6, (get_byte(random, 6) & 15) | 112), 'hex')::uuid
    FROM (SELECT uuid_send(gen_random_uuid()) AS random) AS made
$$;
"""

MATCHES = r"""
CREATE FUNCTION backstop_matches(p_patterns text[], p_type text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- '*' stands for anything, all else for itself.
    SELECT EXISTS (SELECT 1 FROM unnest(p_patterns) AS pattern WHERE p_type LIKE
        replace(replace(replace(replace(pattern, '\', '\\'), '_', '\_'), '%', '\%'), '*', '%'))
$$;
"""

RECORD = """
CREATE FUNCTION backstop_stripe_record(
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
        result := 'retired';  -- the caller's memory of the secrets is out of date
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
            -- In the order of slugs, so that two events lock their lanes in the same order.
            SELECT coalesce(array_agg(slug ORDER BY slug), '{}'), coalesce(array_agg(backstop_uuid7()), '{}'),
                    array_agg(id) FILTER (WHERE NOT EXISTS (SELECT 1 FROM reliability_lane
                        WHERE workflow_id = w.id AND tenant = v_endpoint.tenant))
                INTO v_slugs, v_ids, missing FROM reliability_workflow w
                WHERE stripe_events <> '{}' AND backstop_matches(stripe_events, p_type);
            IF missing IS NOT NULL THEN
                result := 'lanes';  -- there is more to do before: open them
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
                    -- Somebody used the event's id as a key before: the event is not lost for that.
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
"""
DROP_RECORD = (
    "DROP FUNCTION backstop_stripe_record(uuid, uuid, uuid, text, boolean, text, text, text, text, timestamptz, text,"
    " text, boolean)"
)

REFUSE = """
CREATE FUNCTION backstop_stripe_refuse(p_slug text, p_reason text, p_address text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_recent integer;
BEGIN
    SELECT count(*) INTO v_recent FROM (SELECT 1 FROM reliability_striperefusal
        WHERE reason = p_reason AND at > v_now - interval '1 minute'
            AND (slug = p_slug OR p_reason = 'unknown_endpoint') LIMIT 100) AS recent;
    IF v_recent >= 100 THEN
        -- A flood is counted, so that nobody fills the disk by being refused.
        UPDATE reliability_striperefusal SET count = count + 1 WHERE id = (
            SELECT id FROM reliability_striperefusal WHERE reason = p_reason
                AND (slug = p_slug OR p_reason = 'unknown_endpoint') ORDER BY at DESC LIMIT 1);
    ELSE
        INSERT INTO reliability_striperefusal (slug, reason, address, count, at)
            VALUES (p_slug, p_reason, p_address, 1, v_now);
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("reliability", "0006_held_deliveries")]

    operations = [
        migrations.RunSQL(UUID7, "DROP FUNCTION backstop_uuid7()"),
        migrations.RunSQL(MATCHES, "DROP FUNCTION backstop_matches(text[], text)"),
        migrations.RunSQL(RECORD, DROP_RECORD),
        migrations.RunSQL(REFUSE, "DROP FUNCTION backstop_stripe_refuse(text, text, text)"),
    ]
