"""The SQL half of `reliability.queue`: wake-ups that commit with the rows they are about."""

from django.db import migrations

WAKE = """
CREATE FUNCTION backstop_wake(p_lane integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'lane:' || p_lane;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1112757840, p_lane);
    IF EXISTS (SELECT 1 FROM reliability_lane WHERE id = p_lane AND attended_until > clock_timestamp()) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
        RETURN;
    END IF;
    BEGIN
        PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
            'dispatch', 'dispatch', 0, NULL, v_key, jsonb_build_object('lane_id', p_lane), NULL
        )::procrastinate_job_to_defer_v1]);
    EXCEPTION WHEN unique_violation THEN
        RETURN;  -- another transaction's wake-up came first, and serves both
    END;
    -- If a worker dies with the wake-up in its hands, this one stands by.
    PERFORM backstop_wake_at(p_lane, clock_timestamp() + interval '60 seconds');
END $$;
"""

WAKE_AT = """
CREATE FUNCTION backstop_wake_at(p_lane integer, p_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'lane-later:' || p_lane;
    v_start timestamptz := p_at - interval '2 seconds';
    v_args jsonb := jsonb_build_object('lane_id', p_lane, 'at', extract(epoch FROM p_at));
    v_planned timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1112757840, p_lane);
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
                PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
                    'dispatch', 'dispatch', 0, NULL, v_key, v_args, v_start
                )::procrastinate_job_to_defer_v1]);
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                NULL;  -- planned by another transaction just now: compare with that one
            END;
        END IF;
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("reliability", "0001_initial"),
        ("procrastinate", "0041_post_retry_failed_job"),
    ]

    operations = [
        migrations.RunSQL(WAKE, "DROP FUNCTION backstop_wake(integer)"),
        migrations.RunSQL(WAKE_AT, "DROP FUNCTION backstop_wake_at(integer, timestamptz)"),
    ]
