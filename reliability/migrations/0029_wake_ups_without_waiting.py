"""Wake-ups wait for nobody: neither for a lane's advisory lock, nor for another transaction's wake-up of the lane.

1. Who cannot take the lane's lock (somebody holds it exclusively) relies on nothing that is there, and writes a wake-up
   of its own.
2. The wake-ups that are shared (`lane:`, `lane-later:`) are written under a second advisory lock of the lane, since a
   unique index makes the second writer of a key wait for the first one's commit. Who cannot take that lock cannot know
   whether the first one will commit, and writes a wake-up of its own as well.

A transaction has at the most one such wake-up for now, and one for later, of a lane: its key names the transaction, so
that nobody else ever writes it. Since nothing waits here, no order of wake-ups can cause a deadlock.

`backstop_requeue` is for a dispatcher that leaves a lane which it could not lock. It changes no row that others could
count on, so it needs no lock: a wake-up of that key that waits already is fetched after this one was asked for.
"""

from importlib import import_module

from django.db import migrations

former = import_module("reliability.migrations.0002_wake_ups")

DEFER = """
CREATE FUNCTION backstop_defer_wake(p_lane integer, p_key text, p_at timestamptz) RETURNS void LANGUAGE sql AS $$
    -- Made due two seconds early: the worker polls, and sleeps the rest (`engine.LEAD`).
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        'dispatch', 'dispatch', 0, NULL, p_key,
        CASE WHEN p_at IS NULL THEN jsonb_build_object('lane_id', p_lane)
            ELSE jsonb_build_object('lane_id', p_lane, 'at', extract(epoch FROM p_at)) END,
        p_at - interval '2 seconds'
    )::procrastinate_job_to_defer_v1])
$$;
"""
WAKE = """
CREATE OR REPLACE FUNCTION backstop_wake(p_lane integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'lane:' || p_lane;
BEGIN
    IF pg_try_advisory_xact_lock_shared(1112757840, p_lane) THEN
        IF EXISTS (SELECT 1 FROM reliability_lane WHERE id = p_lane AND attended_until > clock_timestamp()) THEN
            RETURN;
        END IF;
        IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
            RETURN;
        END IF;
    END IF;
    IF NOT backstop_may_share(p_lane) THEN
        v_key := 'lane-own:' || p_lane || ':' || pg_current_xact_id();
        IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
            RETURN;
        END IF;
    END IF;
    BEGIN
        PERFORM backstop_defer_wake(p_lane, v_key, NULL);
    EXCEPTION WHEN unique_violation THEN
        RETURN;  -- another transaction's wake-up has committed since, and serves both
    END;
    -- If a worker dies with the wake-up in its hands, this one stands by.
    PERFORM backstop_wake_at(p_lane, clock_timestamp() + interval '60 seconds');
END $$;
"""
MAY_SHARE = """
CREATE FUNCTION backstop_may_share(p_lane integer) RETURNS boolean LANGUAGE sql AS $$
    -- The first is held already by who relies on others' wake-ups; without it nobody writes one that others rely on.
    SELECT pg_try_advisory_xact_lock_shared(1112757840, p_lane) AND pg_try_advisory_xact_lock(1112757841, p_lane)
$$;
"""
WAKE_AT = """
CREATE OR REPLACE FUNCTION backstop_wake_at(p_lane integer, p_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'lane-later:' || p_lane;
    v_start timestamptz := p_at - interval '2 seconds';
    v_args jsonb := jsonb_build_object('lane_id', p_lane, 'at', extract(epoch FROM p_at));
    v_planned timestamptz;
BEGIN
    IF pg_try_advisory_xact_lock_shared(1112757840, p_lane) THEN
        SELECT scheduled_at INTO v_planned FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo';
        IF FOUND AND v_planned <= v_start THEN
            RETURN;
        END IF;
    END IF;
    IF NOT backstop_may_share(p_lane) THEN
        v_key := 'lane-own-later:' || p_lane || ':' || pg_current_xact_id();
    END IF;
    FOR attempt IN 1..5 LOOP
        SELECT scheduled_at INTO v_planned FROM procrastinate_jobs
            WHERE queueing_lock = v_key AND status = 'todo';
        IF FOUND THEN
            IF v_planned <= v_start THEN
                RETURN;
            END IF;
            UPDATE procrastinate_jobs SET scheduled_at = v_start, args = v_args
                WHERE queueing_lock = v_key AND status = 'todo' AND scheduled_at > v_start;
            IF FOUND THEN
                IF v_start <= clock_timestamp() THEN
                    -- An update notifies nobody; these are the messages of Procrastinate's insert trigger.
                    PERFORM pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted", "job_id": 0}');
                    PERFORM pg_notify('procrastinate_queue_v1#dispatch', '{"type": "job_inserted", "job_id": 0}');
                END IF;
                RETURN;
            END IF;
        ELSE
            BEGIN
                PERFORM backstop_defer_wake(p_lane, v_key, p_at);
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                NULL;  -- planned by another transaction just now: compare with that one
            END;
        END IF;
    END LOOP;
END $$;
"""
REQUEUE = """
CREATE FUNCTION backstop_requeue(p_lane integer, p_wait interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_defer_wake(p_lane, 'lane-again:' || p_lane, clock_timestamp() + p_wait);
EXCEPTION WHEN unique_violation THEN
    RETURN;  -- one that waits already serves
END $$;
"""
DROP = """
DROP FUNCTION backstop_requeue(integer, interval);
DROP FUNCTION backstop_may_share(integer);
DROP FUNCTION backstop_defer_wake(integer, text, timestamptz);
"""


class Migration(migrations.Migration):
    dependencies = [("reliability", "0028_idempotency_keys")]

    operations = [
        migrations.RunSQL(
            [DEFER, MAY_SHARE, WAKE, WAKE_AT, REQUEUE],
            [
                former.WAKE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"),
                former.WAKE_AT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"),
                DROP,
            ],
        )
    ]
