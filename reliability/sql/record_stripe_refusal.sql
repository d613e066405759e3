-- Records that a request to a Stripe endpoint was refused, and why.
--
-- From 100 a minute on, only the count of the newest row grows, so that nobody can fill the disk with refused
-- requests.
CREATE OR REPLACE FUNCTION backstop_record_stripe_refusal(p_slug text, p_reason text, p_address text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_recent integer;
BEGIN
    SELECT count(*) INTO v_recent FROM (SELECT 1 FROM reliability_striperefusal
        WHERE reason = p_reason AND at > v_now - interval '1 minute'
            AND (slug = p_slug OR p_reason = 'unknown_endpoint') LIMIT 100) AS recent;
    IF v_recent >= 100 THEN
        UPDATE reliability_striperefusal SET count = count + 1 WHERE id = (
            SELECT id FROM reliability_striperefusal WHERE reason = p_reason
                AND (slug = p_slug OR p_reason = 'unknown_endpoint') ORDER BY at DESC LIMIT 1);
    ELSE
        INSERT INTO reliability_striperefusal (slug, reason, address, count, at)
            VALUES (p_slug, p_reason, p_address, 1, v_now);
    END IF;
END $$;
