-- Inserts the job of a built-in cron job (`cleanup`, `alerts`); false where one is waiting already.
CREATE OR REPLACE FUNCTION backstop_defer_routine(p_name text, p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_key text := 'routine:' || p_name;
BEGIN
    IF EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = v_key AND status = 'todo') THEN
        RETURN false;  -- one that waits already does the work
    END IF;
    PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
        'operation', 'routine', 0, NULL, v_key, jsonb_build_object('name', p_name, 'run_id', p_run), NULL
    )::procrastinate_job_to_defer_v1]);
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RETURN false;
END $$;

-- Inserts a ping's row. A run that was started by hand has no address, and no ping.
CREATE OR REPLACE FUNCTION backstop_insert_ping(
    p_job uuid, p_result text, p_run uuid, p_address text, p_elapsed_ms double precision
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO scheduling_ping (job_id, at, result, run_id, address, duration_ms)
    SELECT p_job, clock_timestamp(), p_result, p_run, p_address,
        round(p_elapsed_ms + extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)
    WHERE p_address IS NOT NULL  -- a run by hand is no ping
$$;

-- Turns a ping of a cron job into runs and deliveries, in one statement. `scheduling.jobs` calls it.
--
-- Under the job's row lock it decides whether the run is a repeat and whether it overlaps with the one before, then
-- inserts the runs, their deliveries (by `backstop_accept`) or a built-in job's wake-up, and the ping. `p_ids`,
-- `p_keys`, `p_slots`, `p_missed`, `p_payloads` and `p_digests` are the runs, oldest first: the last is the ping's
-- own, those before make up for missed slots. `p_deliveries` are the deliveries' ids, run by run in the order of
-- `p_workflows`.
--
-- `outcome` is `run`, `repeat` or `skipped`, or a reason why nothing was inserted: `gone`, `disabled`, `lanes` (the
-- workflows in `missing` have no lane yet) or `again` (another ping changed what the caller had read).
CREATE OR REPLACE FUNCTION backstop_run_cron(
    p_job uuid, p_workflows text[], p_tenant text, p_period interval, p_last timestamptz,
    p_ids uuid[], p_keys text[], p_slots timestamptz[], p_missed integer[], p_payloads text[], p_digests bytea[],
    p_deliveries uuid[], p_now timestamptz, p_address text, p_elapsed_ms double precision,
    OUT outcome text, OUT run uuid, OUT run_slot timestamptz, OUT deliveries uuid[], OUT was_skipped boolean,
    OUT missing text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_count integer := cardinality(p_ids);
    v_width integer := cardinality(p_workflows);
    v_job record;
    v_first record;
    v_before uuid[];
    v_busy boolean;
    v_at timestamptz;
    v_run uuid;
    v_key text;
    v_ids uuid[];
    v_id uuid;
    v_accepted record;
BEGIN
    deliveries := '{}';
    was_skipped := false;
    SELECT slug, enabled, overlap, builtin INTO v_job FROM scheduling_cronjob WHERE id = p_job FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'gone';
        RETURN;
    ELSIF NOT v_job.enabled THEN
        outcome := 'disabled';
        RETURN;
    END IF;

    -- 1. The same run again: by its key or, where a period is all that is expected, within half of it.
    SELECT id, slot, result INTO v_first FROM scheduling_run WHERE job_id = p_job AND key = p_keys[v_count];
    IF NOT FOUND AND p_period IS NOT NULL THEN
        SELECT id, slot, result INTO v_first FROM scheduling_run WHERE job_id = p_job AND slot IS NOT NULL
            ORDER BY slot DESC LIMIT 1;
        IF FOUND AND p_now - v_first.slot >= p_period / 2 THEN
            IF v_first.slot IS DISTINCT FROM p_last THEN
                outcome := 'again';
                RETURN;
            END IF;
            v_first.id := NULL;
        END IF;
    END IF;
    IF v_first.id IS NOT NULL THEN
        outcome := 'repeat';
        run := v_first.id;
        run_slot := v_first.slot;
        was_skipped := v_first.result = 'skipped';
        SELECT coalesce(array_agg(d.id ORDER BY r.started_at, d.place), '{}') INTO deliveries
            FROM scheduling_run r, unnest(r.delivery_ids) WITH ORDINALITY AS d(id, place)
            WHERE r.id = run OR r.caught_up_by = run;
        PERFORM backstop_insert_ping(p_job, outcome, run, p_address, p_elapsed_ms);
        RETURN;
    END IF;

    -- 2. A lane's first delivery needs the lane opened.
    SELECT array_agg(w) INTO missing FROM unnest(p_workflows) AS w WHERE NOT EXISTS (
        SELECT 1 FROM reliability_workflow k JOIN reliability_lane l ON l.workflow_id = k.id
        WHERE k.slug = w AND l.tenant = p_tenant);
    IF missing IS NOT NULL THEN
        outcome := 'lanes';
        RETURN;
    END IF;

    -- 3. Which deliveries of earlier runs have not ended? Their rows are locked: none ends unnoticed (`waits_for`).
    SELECT array_agg(open.id) INTO v_before FROM (
        SELECT id FROM reliability_delivery
        -- Of each lane the last that has not ended, among the last 20 runs.
        WHERE id = ANY (ARRAY(SELECT DISTINCT ON (d.lane_id) d.id
                FROM (SELECT delivery_ids, started_at FROM scheduling_run
                    WHERE job_id = p_job AND result = 'accepted' ORDER BY started_at DESC LIMIT 20) AS last,
                    unnest(last.delivery_ids) AS one(id) JOIN reliability_delivery d USING (id)
                WHERE d.state IN ('pending', 'sending', 'awaiting_callback')
                ORDER BY d.lane_id, last.started_at DESC))
            AND state IN ('pending', 'sending', 'awaiting_callback')
        ORDER BY id FOR NO KEY UPDATE
    ) AS open;
    v_busy := v_before IS NOT NULL AND v_job.overlap = 'skip';
    IF v_job.builtin <> '' THEN
        v_busy := NOT backstop_defer_routine(v_job.builtin, p_ids[v_count]);
    END IF;

    -- 4. The runs, each later than all before it.
    SELECT greatest(clock_timestamp(), max(started_at) + interval '1 microsecond') INTO v_at
        FROM scheduling_run WHERE job_id = p_job;
    FOR i IN 1..v_count LOOP
        INSERT INTO scheduling_run (id, job_id, key, slot, started_at, result,
                delivery_ids, missed, caught_up_by, error)
            VALUES (p_ids[i], p_job, p_keys[i], p_slots[i], v_at, CASE WHEN v_busy THEN 'skipped' ELSE 'accepted' END,
                '{}', p_missed[i], CASE WHEN i < v_count THEN p_ids[v_count] END, '')
            ON CONFLICT (job_id, key) DO NOTHING RETURNING id INTO v_run;
        v_at := v_at + interval '1 microsecond';
        CONTINUE WHEN v_run IS NULL OR v_busy OR v_job.builtin <> '';
        v_ids := '{}';
        v_key := 'cron:' || v_job.slug || ':' || p_keys[i];
        FOR w IN 1..v_width LOOP
            v_id := p_deliveries[(i - 1) * v_width + w];
            SELECT * INTO v_accepted FROM backstop_accept(v_id, p_workflows[w], p_tenant, v_key, p_payloads[i],
                p_digests[i], p_now, NULL, 'cron', false, true, p_now);
            IF v_accepted.accepted THEN
                UPDATE reliability_delivery AS new SET waits_for = old.id FROM reliability_delivery AS old
                    WHERE new.id = v_id AND old.id = ANY (v_before) AND old.lane_id = new.lane_id;
            ELSE
                SELECT id INTO v_id FROM reliability_delivery
                    WHERE lane_id = v_accepted.lane AND idempotency_key = v_key AND source <> 'replay';
            END IF;
            v_ids := v_ids || v_id;
        END LOOP;
        UPDATE scheduling_run SET delivery_ids = v_ids WHERE id = v_run;
        deliveries := deliveries || v_ids;
        -- The runs of one ping wait for each other, too.
        v_before := v_ids;
    END LOOP;
    outcome := CASE WHEN v_busy THEN 'skipped' ELSE 'run' END;
    was_skipped := v_busy;
    run := p_ids[v_count];
    run_slot := p_slots[v_count];
    PERFORM backstop_insert_ping(p_job, outcome, run, p_address, p_elapsed_ms);
END $$;
