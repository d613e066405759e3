-- Counts Stripe's events, repeats and refused requests as they are inserted, whoever inserts them.
--
-- At once and not through the outbox: each request changes one total, in a shard of its session's (`add_total.sql`).
CREATE OR REPLACE FUNCTION backstop_count_stripe() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'reliability_stripeevent' THEN
        PERFORM backstop_add_total('stripe', NEW.endpoint_id::text, 0, 'new', 1);
    ELSIF TG_TABLE_NAME = 'reliability_striperepeat' THEN
        PERFORM backstop_add_total('stripe', endpoint_id::text, 0, 'duplicate', 1)
            FROM reliability_stripeevent WHERE id = NEW.event_id;
    ELSE
        -- A name that is no endpoint's is not kept: anyone can send any number of them.
        PERFORM backstop_add_total('stripe', coalesce((SELECT id::text FROM reliability_stripeendpoint
            WHERE slug = NEW.slug), ''), 0, NEW.reason, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER backstop_total_event
    AFTER INSERT ON reliability_stripeevent
    FOR EACH ROW
    EXECUTE FUNCTION backstop_count_stripe();

CREATE OR REPLACE TRIGGER backstop_total_refusal
    AFTER INSERT OR UPDATE OF count ON reliability_striperefusal
    FOR EACH ROW
    EXECUTE FUNCTION backstop_count_stripe();

CREATE OR REPLACE TRIGGER backstop_total_repeat
    AFTER INSERT ON reliability_striperepeat
    FOR EACH ROW
    EXECUTE FUNCTION backstop_count_stripe();
