-- The usual request in one statement: the API key is checked and the delivery is accepted.
--
-- Any key that is not plainly good (unknown, revoked, expired, of another scope or tenant, or its `last_used_at` is
-- due) accepts nothing here; the caller then takes the slower way, which also gives the reason. Only salted digests
-- of the key's hash are compared, so that the time this takes says nothing about the stored hash.
CREATE OR REPLACE FUNCTION backstop_accept_by_key(
    p_prefix text, p_hash text, p_tenant text, p_id uuid, p_workflow text, p_key text, p_payload text,
    p_digest bytea, p_due timestamptz,
    OUT accepted boolean, OUT lane integer, OUT tenant text, OUT at timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    accepted := false;
    at := clock_timestamp();
    -- The delivery's new id is the salt.
    SELECT coalesce(nullif(k.tenant, ''), p_tenant, 'default') INTO tenant FROM reliability_apikey k
        WHERE k.prefix = p_prefix AND k.revoked_at IS NULL
            AND sha256(convert_to(p_id || k.hash, 'UTF8')) = sha256(convert_to(p_id || p_hash, 'UTF8'))
            AND (k.expires_at IS NULL OR k.expires_at > at)
            AND (k.scopes = '{}' OR 'deliver' = ANY (k.scopes))
            AND (coalesce(k.tenant, '') = '' OR p_tenant IS NULL OR k.tenant = p_tenant)
            AND k.last_used_at BETWEEN at - interval '1 minute' AND at;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT found.lane, found.accepted INTO lane, accepted
        FROM backstop_accept(p_id, p_workflow, tenant, p_key, p_payload, p_digest, greatest(at, p_due), NULL,
            'api', false, false, at) AS found;
END $$;
