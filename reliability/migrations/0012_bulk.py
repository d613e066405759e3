"""Bulk operations: what they acted on, how their replays ended, and the SQL half of their wake-ups.

A replay that ends, by whoever's hand, is counted in the transaction that ends it, in a row of its operation and its
lane: the lane's lock orders these transactions anyway, so that they do not queue up at the operation's own row. Of
that row they take a key share, which a step's own lock lets pass. Only a step that is about to wait for the ends locks
against it (`bulk.operations.settle_down`): either it sees this end, or this end sees it waiting and wakes it.
"""

import django.db.models.deletion
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Q

OPERATE = """
CREATE FUNCTION backstop_operate_by(p_operation uuid, p_key text, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_start timestamptz := p_at - interval '2 seconds';
    v_args jsonb := jsonb_build_object('operation_id', p_operation, 'at', extract(epoch FROM p_at));
    v_planned timestamptz;
BEGIN
    FOR attempt IN 1..5 LOOP
        SELECT coalesce(scheduled_at, '-infinity') INTO v_planned FROM procrastinate_jobs
            WHERE queueing_lock = p_key AND status = 'todo';
        IF FOUND THEN
            IF v_planned <= v_start THEN
                RETURN;
            END IF;
            UPDATE procrastinate_jobs SET scheduled_at = v_start, args = v_args
                WHERE queueing_lock = p_key AND status = 'todo' AND scheduled_at > v_start;
            IF FOUND THEN
                IF v_start <= clock_timestamp() THEN
                    -- An update notifies nobody; these are the messages of Procrastinate's insert trigger.
                    PERFORM pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted", "job_id": 0}');
                    PERFORM pg_notify('procrastinate_queue_v1#operation', '{"type": "job_inserted", "job_id": 0}');
                END IF;
                RETURN;
            END IF;
        ELSE
            BEGIN
                PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
                    'operation', 'operate', 0, NULL, p_key, v_args, v_start
                )::procrastinate_job_to_defer_v1]);
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                NULL;  -- planned by another transaction just now: compare with that one
            END;
        END IF;
    END LOOP;
END $$;
-- If a worker dies with the wake-up in its hands, this one stands by.
CREATE FUNCTION backstop_operate_stand_by(p_operation uuid, p_at timestamptz) RETURNS void LANGUAGE sql AS $$
    SELECT backstop_operate_by(p_operation, 'operation-stand-by:' || p_operation, p_at + interval '5 seconds')
$$;
CREATE FUNCTION backstop_operate(p_operation uuid, p_at timestamptz) RETURNS void LANGUAGE sql AS $$
    SELECT backstop_operate_by(p_operation, 'operation:' || p_operation, p_at),
        backstop_operate_stand_by(p_operation, p_at)
$$;
"""
TALLY = """
CREATE FUNCTION backstop_tally(
    p_operation uuid, p_lane integer, p_recovered integer, p_failed integer, p_withdrawn integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_waits boolean;
BEGIN
    IF p_recovered = 0 AND p_failed = 0 AND p_withdrawn = 0 THEN
        RETURN;
    END IF;
    INSERT INTO reliability_operationtally AS t (operation_id, lane_id, recovered, failed, withdrawn)
        VALUES (p_operation, p_lane, p_recovered, p_failed, p_withdrawn)
        ON CONFLICT (operation_id, lane_id) DO UPDATE SET recovered = t.recovered + excluded.recovered,
            failed = t.failed + excluded.failed, withdrawn = t.withdrawn + excluded.withdrawn;
    SELECT state = 'running' AND next_at IS NULL INTO v_waits FROM reliability_operation
        WHERE id = p_operation FOR KEY SHARE;
    IF v_waits THEN
        PERFORM backstop_operate(p_operation, clock_timestamp());
    END IF;
END $$;

CREATE FUNCTION backstop_tally_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_tally(NEW.operation_id, NEW.lane_id,
        (NEW.state = 'delivered')::int - (OLD.state = 'delivered')::int,
        (NEW.state = 'dead')::int - (OLD.state = 'dead')::int,
        (NEW.state IN ('cancelled', 'skipped'))::int - (OLD.state IN ('cancelled', 'skipped'))::int);
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_tally AFTER UPDATE OF state ON reliability_delivery FOR EACH ROW
    WHEN (NEW.operation_id IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION backstop_tally_delivery();

CREATE FUNCTION backstop_tally_retry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_tally(NEW.operation_id, l.lane_id,
        (NEW.state = 'succeeded')::int - (OLD.state = 'succeeded')::int,
        (NEW.state = 'failed')::int - (OLD.state = 'failed')::int, 0)
        FROM reliability_deadletter l WHERE l.id = NEW.dead_letter_id;
    RETURN NULL;
END $$;
CREATE TRIGGER execution_retry_tally AFTER UPDATE OF state ON reliability_executionretry FOR EACH ROW
    WHEN (NEW.operation_id IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION backstop_tally_retry();
"""
DROP_OPERATE = """
DROP FUNCTION backstop_operate(uuid, timestamptz);
DROP FUNCTION backstop_operate_stand_by(uuid, timestamptz);
DROP FUNCTION backstop_operate_by(uuid, text, timestamptz);
"""
DROP_TALLY = """
DROP TRIGGER execution_retry_tally ON reliability_executionretry;
DROP TRIGGER delivery_tally ON reliability_delivery;
DROP FUNCTION backstop_tally_retry();
DROP FUNCTION backstop_tally_delivery();
DROP FUNCTION backstop_tally(uuid, integer, integer, integer, integer);
"""


def belongs(name, **options):
    """Of a big table: no constraint, whose check would lock it, and no index of Django's own."""
    return models.ForeignKey(
        "reliability.operation",
        on_delete=django.db.models.deletion.SET_NULL,
        null=True,
        blank=True,
        related_name=name,
        db_index=False,
        db_constraint=False,
        **options,
    )


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("reliability", "0011_failure_groups")]

    operations = [
        migrations.CreateModel(
            name="OperationTally",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("recovered", models.IntegerField(db_default=0, default=0)),
                ("failed", models.IntegerField(db_default=0, default=0)),
                ("withdrawn", models.IntegerField(db_default=0, default=0)),
                (
                    "lane",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="reliability.lane",
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tallies",
                        to="reliability.operation",
                    ),
                ),
            ],
            options={
                "ordering": ("id",),
                "constraints": [
                    models.UniqueConstraint(fields=("operation", "lane"), name="operation_tally_once"),
                ],
            },
        ),
        migrations.RemoveField("operation", "failed"),
        migrations.RemoveField("operation", "recovered"),
        migrations.AlterField(
            "operation",
            "kind",
            models.TextField(choices=[("replay", "Replay"), ("purge", "Purge"), ("restore", "Restore")]),
        ),
        migrations.AddField("deadletter", "purged_by", belongs("purged")),
        migrations.AddField(
            "delivery",
            "operation",
            belongs("deliveries", help_text="The bulk operation that this replay belongs to."),
        ),
        migrations.AddField("executionretry", "operation", belongs("execution_retries")),
        migrations.RunSQL(OPERATE, DROP_OPERATE),
        migrations.RunSQL(TALLY, DROP_TALLY),
        AddIndexConcurrently(
            "deadletter",
            models.Index(F("erase_at"), name="dead_letter_to_erase", condition=Q(erase_at__isnull=False)),
        ),
        AddIndexConcurrently(
            "deadletter",
            models.Index(F("purged_by"), F("id"), name="dead_letter_purged_by", condition=Q(purged_by__isnull=False)),
        ),
        AddIndexConcurrently(
            "delivery",
            models.Index(
                F("operation"),
                F("state"),
                F("id").desc(),
                name="delivery_of_operation",
                condition=Q(operation__isnull=False),
            ),
        ),
    ]
