-- Whether a Stripe event type matches one of the patterns. '*' stands for any text.
CREATE OR REPLACE FUNCTION backstop_match_event_type(p_patterns text[], p_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    -- LIKE's own wildcards are escaped first, so that they match themselves.
    SELECT EXISTS (SELECT 1 FROM unnest(p_patterns) AS pattern WHERE p_type LIKE
        replace(replace(replace(replace(pattern, '\', '\\'), '_', '\_'), '%', '\%'), '*', '%'))
$$;
