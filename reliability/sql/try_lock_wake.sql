CREATE OR REPLACE FUNCTION backstop_try_lock_wake(p_lane integer) RETURNS boolean LANGUAGE sql AS $$
    -- The first is held already by who relies on others' wake-ups; without it nobody writes one that others rely on.
    SELECT pg_try_advisory_xact_lock_shared(1112757840, p_lane) AND pg_try_advisory_xact_lock(1112757841, p_lane)
$$;
