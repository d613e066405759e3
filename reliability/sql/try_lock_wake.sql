-- Takes the locks under which a transaction may write a wake-up that other transactions rely on; never waits.
--
-- The first is the lane's barrier (1112757840 is `reliability.queue.wakeups.LANE_LOCK`): its holders rely on a
-- wake-up or write one, and a dispatcher that wants to leave the lane takes it exclusively. The second lets one
-- transaction at a time write the shared wake-up: another would wait at the unique index on `queueing_lock` until
-- the first one commits.
CREATE OR REPLACE FUNCTION backstop_try_lock_wake(p_lane integer) RETURNS boolean LANGUAGE sql AS $$
    SELECT pg_try_advisory_xact_lock_shared(1112757840, p_lane) AND pg_try_advisory_xact_lock(1112757841, p_lane)
$$;
