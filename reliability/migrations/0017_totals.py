"""Totals that no retention takes away, and the functions and triggers that count them.

1. `backstop_count` counts what a lane's turn settled: in its total, its minute and its hour. Whoever calls it holds the
   lane's lock.
2. What is rare is counted by triggers. They note it (`backstop_total_change`), and once, when the transaction ends, its
   notes are added up and applied in the order of their keys, so that no two transactions wait for each other. Who
   reads a total within the transaction that changed it says `SET CONSTRAINTS backstop_total_apply IMMEDIATE` first.
3. Stripe's requests are many and change one total each: `backstop_add_total` counts them at once. Connections have
   shards of their own, so that they do not queue for one row.

Totals begin with what the roll-ups and the dead letters say; what nothing cheap says (attempts by result, latencies,
executions, Stripe's events) begins at zero. Each step can be run again where a run was broken off.
"""

import django.contrib.postgres.fields
from django.db import migrations, models

SHARDS = 16
# The shard of what was there before: no connection's own.
BEFORE = -1

ADD = """
CREATE OR REPLACE FUNCTION backstop_add(p_a bigint[], p_b bigint[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    FOR i IN 1..cardinality(p_b) LOOP
        p_a[i] := coalesce(p_a[i], 0) + p_b[i];
    END LOOP;
    RETURN p_a;
END $$
"""
COUNT = """
CREATE OR REPLACE FUNCTION backstop_count(
    p_lane integer, p_at timestamptz, p_delivered integer, p_dead integer, p_attempts integer, p_failures integer,
    p_retries integer, p_retries_delivered integer, p_results bigint[], p_durations bigint[], p_duration_ms bigint,
    p_latencies bigint[], p_latency_ms bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_lanetotal SET
        delivered = delivered + p_delivered, dead = dead + p_dead, retries = retries + p_retries,
        retries_delivered = retries_delivered + p_retries_delivered, results = backstop_add(results, p_results),
        durations = backstop_add(durations, p_durations), duration_ms = duration_ms + p_duration_ms,
        latencies = backstop_add(latencies, p_latencies), latency_ms = latency_ms + p_latency_ms
        WHERE lane_id = p_lane;
    IF NOT FOUND THEN
        INSERT INTO reliability_lanetotal (lane_id, workflow_id, delivered, dead, retries, retries_delivered, results,
                durations, duration_ms, latencies, latency_ms)
            SELECT id, workflow_id, p_delivered, p_dead, p_retries, p_retries_delivered, p_results, p_durations,
                p_duration_ms, p_latencies, p_latency_ms
            FROM reliability_lane WHERE id = p_lane;
    END IF;
    INSERT INTO reliability_rollup AS r
        (grain, at, lane_id, delivered, dead, attempts, failures, retries, retries_delivered, latency)
    SELECT grain, date_trunc(grain, p_at, 'UTC'), p_lane, p_delivered, p_dead, p_attempts, p_failures, p_retries,
        p_retries_delivered, p_latencies::int[]
    FROM unnest(ARRAY['minute', 'hour']) AS grain
    ON CONFLICT (grain, at, lane_id) DO UPDATE SET
        delivered = r.delivered + excluded.delivered, dead = r.dead + excluded.dead,
        attempts = r.attempts + excluded.attempts, failures = r.failures + excluded.failures,
        retries = r.retries + excluded.retries,
        retries_delivered = r.retries_delivered + excluded.retries_delivered,
        latency = backstop_add(r.latency, excluded.latency)::int[];
END $$
"""
DROP_COUNT = """
DROP FUNCTION IF EXISTS backstop_count(integer, timestamptz, integer, integer, integer, integer, integer, integer,
    bigint[], bigint[], bigint, bigint[], bigint)
"""

ADD_TOTAL = f"""
CREATE OR REPLACE FUNCTION backstop_add_total(
    p_name text, p_key text, p_lane integer, p_label text, p_count bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_shard smallint := pg_backend_pid() % {SHARDS};
BEGIN
    UPDATE reliability_total SET count = count + p_count
        WHERE name = p_name AND key = p_key AND lane_id = p_lane AND label = p_label AND shard = v_shard;
    IF NOT FOUND THEN
        INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
            VALUES (p_name, p_key, p_lane, p_label, v_shard, p_count)
            ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
    END IF;
END $$
"""  # noqa: S608  # a number of our own
NOTES = [
    """
    CREATE TABLE IF NOT EXISTS backstop_total_change (
        xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
        name text NOT NULL,
        key text NOT NULL,
        lane_id integer NOT NULL,
        label text NOT NULL,
        count bigint NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS backstop_total_change_by_xact ON backstop_total_change (xact)",
    # One row a transaction that has notes: what is due when it commits.
    "CREATE TABLE IF NOT EXISTS backstop_total_due (xact xid8 PRIMARY KEY)",
    """
    CREATE OR REPLACE FUNCTION backstop_owe_totals() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO backstop_total_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER backstop_total_owe AFTER INSERT ON backstop_total_change
        FOR EACH STATEMENT EXECUTE FUNCTION backstop_owe_totals()
    """,
    f"""
    CREATE OR REPLACE FUNCTION backstop_apply_totals() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        v_notes backstop_total_change[];
    BEGIN
        WITH gone AS (DELETE FROM backstop_total_change c WHERE c.xact = pg_current_xact_id() RETURNING c)
            SELECT array_agg(gone.c) INTO v_notes FROM gone;
        DELETE FROM backstop_total_due WHERE xact = pg_current_xact_id();
        IF v_notes IS NOT NULL THEN
            INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
            SELECT name, key, lane_id, label, pg_backend_pid() % {SHARDS}, sum(count) FROM unnest(v_notes)
            GROUP BY name, key, lane_id, label HAVING sum(count) <> 0 ORDER BY name, key, lane_id, label
            ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
        END IF;
        RETURN NULL;
    END $$
    """,  # noqa: S608  # as above
    "DROP TRIGGER IF EXISTS backstop_total_apply ON backstop_total_due",
    """
    CREATE CONSTRAINT TRIGGER backstop_total_apply AFTER INSERT ON backstop_total_due
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION backstop_apply_totals()
    """,
]

# A death: it is dead, and at a moment at which it was not before.
LETTERS = """
CREATE OR REPLACE FUNCTION backstop_note_letters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT note.name, l.workflow_id, l.id, note.label, count(*) FROM after n
            JOIN reliability_lane l ON l.id = n.lane_id,
            LATERAL (VALUES ('letters', n.status), ('deaths', n.reason)) AS note(name, label)
        WHERE note.name = 'letters' OR n.status = 'dead' GROUP BY 1, 2, 3, 4;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'letters', l.workflow_id, l.id, o.status, -count(*) FROM before o
            JOIN reliability_lane l ON l.id = o.lane_id GROUP BY 2, 3, 4;
    ELSE
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT change.name, l.workflow_id, l.id, change.label, sum(change.count) FROM (
            SELECT note.name, note.lane_id, note.label, note.count FROM before o JOIN after n ON n.id = o.id,
                LATERAL (VALUES ('letters', o.lane_id, o.status, -1), ('letters', n.lane_id, n.status, 1))
                    AS note(name, lane_id, label, count)
            WHERE (n.status, n.lane_id) IS DISTINCT FROM (o.status, o.lane_id)
            UNION ALL
            SELECT 'deaths', n.lane_id, n.reason, 1 FROM before o JOIN after n ON n.id = o.id
            WHERE n.status = 'dead' AND n.died_at <> o.died_at
        ) AS change JOIN reliability_lane l ON l.id = change.lane_id GROUP BY 1, 2, 3, 4;
        INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'expired', '', 0, '', count(*) FROM before o JOIN after n ON n.id = o.id
        WHERE n.status = 'archived' AND o.status <> 'archived'
            AND n.id::text NOT LIKE '%-7de0-8de0-%' HAVING count(*) > 0;  -- the demo's never were
    END IF;
    RETURN NULL;
END $$
"""
NO_LETTERS = """
CREATE OR REPLACE FUNCTION backstop_no_letters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM reliability_total WHERE name = 'letters';
    RETURN NULL;
END $$
"""
# Two counts of one moment make the total exact: what the table holds, less what the triggers have counted of it.
RECOUNT = f"""
CREATE OR REPLACE FUNCTION backstop_recount_letters() RETURNS void LANGUAGE sql AS $$
    INSERT INTO reliability_total (name, key, lane_id, label, shard, count)
    SELECT 'letters', l.workflow_id, l.id, found.status, {BEFORE}, sum(found.count) FROM (
        SELECT lane_id, status, count(*) AS count FROM reliability_deadletter GROUP BY 1, 2
        UNION ALL
        SELECT lane_id, label, -sum(count) FROM reliability_total
            WHERE name = 'letters' AND shard <> {BEFORE} GROUP BY 1, 2
    ) AS found JOIN reliability_lane l ON l.id = found.lane_id GROUP BY 2, 3, 4
    ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = excluded.count
$$
"""  # noqa: S608  # as above
NOTE_ONE = """
CREATE OR REPLACE FUNCTION backstop_note_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'ended', workflow_id, id, NEW.state, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION backstop_note_execution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'executions', workflow_id, id, NEW.status, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION backstop_note_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_total_change (name, key, lane_id, label, count)
        SELECT 'transitions', coalesce(l.workflow_id::text, ''), coalesce(l.id, 0), NEW.to_state, 1
        FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id WHERE b.id = NEW.breaker_id;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION backstop_count_stripe() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'reliability_stripeevent' THEN
        PERFORM backstop_add_total('stripe', NEW.endpoint_id::text, 0, 'new', 1);
    ELSIF TG_TABLE_NAME = 'reliability_striperepeat' THEN
        PERFORM backstop_add_total('stripe', endpoint_id::text, 0, 'duplicate', 1)
            FROM reliability_stripeevent WHERE id = NEW.event_id;
    ELSE
        -- What a stranger made up is not kept: an endpoint that nobody knows is none.
        PERFORM backstop_add_total('stripe', coalesce((SELECT id::text FROM reliability_stripeendpoint
            WHERE slug = NEW.slug), ''), 0, NEW.reason, 1);
    END IF;
    RETURN NULL;
END $$;
"""
# Name, what sets it off, its table, for each row or statement, its function.
TRIGGERS = [
    (
        "backstop_total_insert",
        "AFTER INSERT ON reliability_deadletter",
        "REFERENCING NEW TABLE AS after FOR EACH STATEMENT",
        "backstop_note_letters",
    ),
    (
        "backstop_total_update",
        "AFTER UPDATE ON reliability_deadletter",
        "REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT",
        "backstop_note_letters",
    ),
    (
        "backstop_total_delete",
        "AFTER DELETE ON reliability_deadletter",
        "REFERENCING OLD TABLE AS before FOR EACH STATEMENT",
        "backstop_note_letters",
    ),
    (
        "backstop_total_truncate",
        "AFTER TRUNCATE ON reliability_deadletter",
        "FOR EACH STATEMENT",
        "backstop_no_letters",
    ),
    (
        "backstop_total_ended",
        "AFTER UPDATE OF state ON reliability_delivery",
        "FOR EACH ROW WHEN (NEW.state IN ('cancelled', 'skipped') AND OLD.state <> NEW.state)",
        "backstop_note_ended",
    ),
    (
        "backstop_total_execution",
        "AFTER INSERT ON reliability_execution",
        "FOR EACH ROW",
        "backstop_note_execution",
    ),
    (
        "backstop_total_execution_again",
        "AFTER UPDATE OF status ON reliability_execution",
        "FOR EACH ROW WHEN (NEW.status <> OLD.status)",
        "backstop_note_execution",
    ),
    (
        "backstop_total_transition",
        "AFTER INSERT ON reliability_breakertransition",
        "FOR EACH ROW",
        "backstop_note_transition",
    ),
    ("backstop_total_event", "AFTER INSERT ON reliability_stripeevent", "FOR EACH ROW", "backstop_count_stripe"),
    ("backstop_total_repeat", "AFTER INSERT ON reliability_striperepeat", "FOR EACH ROW", "backstop_count_stripe"),
    (
        "backstop_total_refusal",
        "AFTER INSERT OR UPDATE OF count ON reliability_striperefusal",
        "FOR EACH ROW",
        "backstop_count_stripe",
    ),
]
MAKE_TRIGGERS = [
    f"CREATE OR REPLACE TRIGGER {name} {event} {each} EXECUTE FUNCTION {function}()"
    for name, event, each, function in TRIGGERS
    if "REFERENCING" not in each
]
# One with transition tables cannot be replaced.
for name, event, each, function in TRIGGERS:
    if "REFERENCING" in each:
        MAKE_TRIGGERS += [
            f"DROP TRIGGER IF EXISTS {name} ON {event.rpartition(' ')[2]}",
            f"CREATE TRIGGER {name} {event} {each} EXECUTE FUNCTION {function}()",
        ]
DROP_TRIGGERS = [f"DROP TRIGGER IF EXISTS {name} ON {event.rpartition(' ')[2]}" for name, event, _, _ in TRIGGERS]
DROP_FUNCTIONS = """
DROP FUNCTION IF EXISTS backstop_note_letters(), backstop_no_letters(), backstop_recount_letters(),
    backstop_note_ended(), backstop_note_execution(), backstop_note_transition(), backstop_count_stripe()
"""

FILL = [
    "SELECT backstop_recount_letters()",
    """
    INSERT INTO reliability_lanetotal (lane_id, workflow_id, delivered, dead, results, durations, latencies)
    SELECT l.id, l.workflow_id, sum(r.delivered), sum(r.dead), '{}', '{}', '{}'
    FROM reliability_rollup r JOIN reliability_lane l ON l.id = r.lane_id WHERE r.grain = 'hour' GROUP BY l.id
    ON CONFLICT DO NOTHING
    """,
    f"""
    INSERT INTO reliability_total (name, key, lane_id, label, shard, count)
    SELECT 'deaths', l.workflow_id, l.id, r.reason, {BEFORE}, sum(r.count)
    FROM reliability_deathrollup r JOIN reliability_lane l ON l.id = r.lane_id WHERE r.grain = 'hour' GROUP BY 2, 3, 4
    ON CONFLICT DO NOTHING
    """,  # noqa: S608  # as above
]
# Rows that are counted up again and again find room on their own page.
ROOM = [
    "ALTER TABLE reliability_lanetotal SET (fillfactor = 50)",
    "ALTER TABLE reliability_total SET (fillfactor = 50)",
    "ALTER TABLE reliability_workerfigure SET (fillfactor = 50)",
]


def numbers(*names):
    return [(name, models.BigIntegerField(db_default=0, default=0)) for name in names]


def counts(name):
    return (
        name,
        django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None),
    )


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("reliability", "0016_console_indexes")]

    operations = [
        migrations.CreateModel(
            name="LaneTotal",
            fields=[
                ("lane_id", models.IntegerField(primary_key=True, serialize=False)),
                ("workflow_id", models.UUIDField()),
                *numbers("delivered", "dead", "retries", "retries_delivered"),
                counts("results"),
                counts("durations"),
                *numbers("duration_ms"),
                counts("latencies"),
                *numbers("latency_ms"),
            ],
            options={"ordering": ("lane_id",)},
        ),
        migrations.CreateModel(
            name="WorkerFigure",
            fields=[
                ("worker", models.TextField(primary_key=True, serialize=False)),
                ("memory_bytes", models.BigIntegerField()),
                ("cpu_seconds", models.FloatField()),
                ("seen_at", models.DateTimeField()),
            ],
            options={"ordering": ("worker",)},
        ),
        migrations.CreateModel(
            name="Total",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("key", models.TextField(blank=True, default="")),
                ("lane_id", models.IntegerField(default=0)),
                ("label", models.TextField(blank=True, default="")),
                ("shard", models.SmallIntegerField(default=0)),
                ("count", models.BigIntegerField(default=0)),
            ],
            options={
                "ordering": ("name", "key", "lane_id", "label", "shard"),
                "constraints": [
                    models.UniqueConstraint(fields=("name", "key", "lane_id", "label", "shard"), name="total_once")
                ],
            },
        ),
        migrations.AddField("rollup", "retries", models.IntegerField(db_default=0, default=0)),
        migrations.AddField("rollup", "retries_delivered", models.IntegerField(db_default=0, default=0)),
        migrations.RunSQL(ROOM, migrations.RunSQL.noop),
        migrations.RunSQL([ADD, COUNT], [DROP_COUNT, "DROP FUNCTION IF EXISTS backstop_add(bigint[], bigint[])"]),
        migrations.RunSQL(
            [ADD_TOTAL, *NOTES],
            [
                "DROP TABLE IF EXISTS backstop_total_change, backstop_total_due",
                "DROP FUNCTION IF EXISTS backstop_apply_totals(), backstop_owe_totals()",
                "DROP FUNCTION IF EXISTS backstop_add_total(text, text, integer, text, bigint)",
            ],
        ),
        migrations.RunSQL([LETTERS, NO_LETTERS, RECOUNT, NOTE_ONE, *MAKE_TRIGGERS], [*DROP_TRIGGERS, DROP_FUNCTIONS]),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
