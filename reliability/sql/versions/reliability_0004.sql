-- Accepts one trigger: finds its lane, inserts the delivery and wakes the lane. `reliability.delivery.intake` calls
-- it.
--
-- In SQL, since intake has to be one statement and one transaction; plpgsql keeps the plans for the connection.
-- `accepted` is false where nothing was inserted: without `lane` the lane has to be opened first, with `skips` the
-- payload has to be compared with the last one first (unless `p_skipping` says that this was done), else the key was
-- used before.
CREATE OR REPLACE FUNCTION backstop_accept(
    p_id uuid, p_workflow text, p_tenant text, p_key text, p_payload text, p_digest bytea, p_due timestamptz,
    p_expires timestamptz, p_source text, p_stale boolean, p_skipping boolean, p_now timestamptz,
    OUT lane integer, OUT accepted boolean, OUT skips boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_kept uuid;
BEGIN
    SELECT l.id, coalesce(l.skip_unchanged, w.skip_unchanged, false) INTO lane, skips
        FROM reliability_workflow w JOIN reliability_lane l ON l.workflow_id = w.id
        WHERE w.slug = p_workflow AND l.tenant = p_tenant;
    accepted := false;
    IF lane IS NULL OR (skips AND NOT p_skipping) THEN
        RETURN;
    END IF;
    INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source,
            attempt_count, retries_used, due_at, created_at, expires_at, last_error, stale)
        VALUES (p_id, lane, p_key, p_payload, p_digest, 'pending', p_source,
            0, 0, p_due, p_now, p_expires, '', p_stale)
        -- The key was used before. A session that is inserting the same key is waited for, until it commits.
        ON CONFLICT DO NOTHING RETURNING id INTO v_kept;
    accepted := v_kept IS NOT NULL;
    -- In this transaction: a delivery without a wake-up, or a wake-up before its delivery can be seen, must not be.
    IF accepted AND p_due <= p_now THEN
        PERFORM backstop_wake(lane);
    ELSIF accepted THEN
        PERFORM backstop_wake_at(lane, p_due);
    END IF;
END $$;

-- The usual request in one statement: the API key is checked and the delivery is accepted.
--
-- Any key that is not plainly good (unknown, revoked, expired, of another scope or tenant, or its `last_used_at` is
-- due) accepts nothing here; the caller then takes the slower way, which also gives the reason. Only salted digests
-- of the key's hash are compared, so that the time this takes says nothing about the stored hash.
CREATE OR REPLACE FUNCTION backstop_accept_by_key(
    p_prefix text, p_hash text, p_tenant text, p_id uuid, p_workflow text, p_key text, p_payload text,
    p_digest bytea, p_due timestamptz,
    OUT accepted boolean, OUT lane integer, OUT tenant text, OUT at timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    accepted := false;
    at := clock_timestamp();
    -- The delivery's new id is the salt.
    SELECT coalesce(nullif(k.tenant, ''), p_tenant, 'default') INTO tenant FROM reliability_apikey k
        WHERE k.prefix = p_prefix AND k.revoked_at IS NULL
            AND sha256(convert_to(p_id || k.hash, 'UTF8')) = sha256(convert_to(p_id || p_hash, 'UTF8'))
            AND (k.expires_at IS NULL OR k.expires_at > at)
            AND (k.scopes = '{}' OR 'deliver' = ANY (k.scopes))
            AND (coalesce(k.tenant, '') = '' OR p_tenant IS NULL OR k.tenant = p_tenant)
            AND k.last_used_at BETWEEN at - interval '1 minute' AND at;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT found.lane, found.accepted INTO lane, accepted
        FROM backstop_accept(p_id, p_workflow, tenant, p_key, p_payload, p_digest, greatest(at, p_due), NULL,
            'api', false, false, at) AS found;
END $$;

-- Adds two arrays element by element; the result is as long as the longer one. For histograms.
CREATE OR REPLACE FUNCTION backstop_add_arrays(p_a bigint[], p_b bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    FOR i IN 1..cardinality(p_b) LOOP
        p_a[i] := coalesce(p_a[i], 0) + p_b[i];
    END LOOP;
    RETURN p_a;
END $$;

-- Adds what one turn of a lane settled to the lane's total, its minute and its hour.
--
-- The caller holds the lane's lock, so no two transactions ever update these rows at once, and the order in which
-- they are locked does not matter.
CREATE OR REPLACE FUNCTION backstop_add_results(
    p_lane integer, p_at timestamptz, p_delivered integer, p_dead integer, p_attempts integer, p_failures integer,
    p_retries integer, p_retries_delivered integer, p_results bigint[], p_durations bigint[], p_duration_ms bigint,
    p_latencies bigint[], p_latency_ms bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_lanetotal SET
        delivered = delivered + p_delivered, dead = dead + p_dead, retries = retries + p_retries,
        retries_delivered = retries_delivered + p_retries_delivered, results = backstop_add_arrays(results, p_results),
        durations = backstop_add_arrays(durations, p_durations), duration_ms = duration_ms + p_duration_ms,
        latencies = backstop_add_arrays(latencies, p_latencies), latency_ms = latency_ms + p_latency_ms
        WHERE lane_id = p_lane;
    -- After a lane's first turn its row exists, so UPDATE comes first.
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
        latency = backstop_add_arrays(r.latency, excluded.latency)::int[];
END $$;

-- Adds to a total at once, without the outbox: for Stripe's requests, which are many and change one total each.
--
-- A total has 16 shards, chosen by the session, so that concurrent sessions do not wait for one row.
CREATE OR REPLACE FUNCTION backstop_add_total(
    p_name text, p_key text, p_lane integer, p_label text, p_count bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_shard smallint := pg_backend_pid() % 16;
BEGIN
    -- UPDATE comes first: an upsert takes a value of the id's sequence every time.
    UPDATE reliability_total SET count = count + p_count
        WHERE name = p_name AND key = p_key AND lane_id = p_lane AND label = p_label AND shard = v_shard;
    IF NOT FOUND THEN
        INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
            VALUES (p_name, p_key, p_lane, p_label, v_shard, p_count)
            ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
    END IF;
END $$;

-- Inserts a wake-up job for a lane, through Procrastinate's function; raises `unique_violation` if `p_key` is taken.
--
-- A job is made due 2 seconds early: the worker polls, and sleeps the rest (`reliability.queue.tasks.LEAD`).
CREATE OR REPLACE FUNCTION backstop_defer_wake(p_lane integer, p_key text, p_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        'dispatch', 'dispatch', 0, NULL, p_key,
        CASE WHEN p_at IS NULL THEN jsonb_build_object('lane_id', p_lane)
            ELSE jsonb_build_object('lane_id', p_lane, 'at', extract(epoch FROM p_at)) END,
        p_at - interval '2 seconds'
    )::procrastinate_job_to_defer_v1])
$$;

-- Whether a Stripe event type matches one of the patterns. '*' stands for any text.
CREATE OR REPLACE FUNCTION backstop_match_event_type(p_patterns text[], p_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    -- LIKE's own wildcards are escaped first, so that they match themselves.
    SELECT EXISTS (SELECT 1 FROM unnest(p_patterns) AS pattern WHERE p_type LIKE
        replace(replace(replace(replace(pattern, '\', '\\'), '_', '\_'), '%', '\%'), '*', '%'))
$$;

-- Decides whether a workflow that others start may run, and begins the probe of its breaker if it is due.
--
-- This repeats what `policies.breaker` decides in Python (`tests/api/test_guards.py` holds them to each other),
-- because of the limit of two statements for a permit: authentication takes one, and deciding in Python would take
-- two more whenever a probe is due, one to read and one to write under the lane's lock.
CREATE OR REPLACE FUNCTION backstop_breaker_due(p_breaker reliability_breaker, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE p_breaker.state
        WHEN 'open' THEN coalesce(p_breaker.next_probe_at <= p_now, true)
            OR coalesce(p_breaker.opened_at > p_now, false)
        WHEN 'half_open' THEN coalesce(p_breaker.probe_until <= p_now, true)
        WHEN 'forced_open' THEN coalesce(p_breaker.forced_until <= p_now, false)
        ELSE false END
$$;

CREATE OR REPLACE FUNCTION backstop_permit(
    p_workflow text, p_tenant text, p_key uuid, p_default_timeout_ms integer,
    OUT verdict text, OUT probe boolean, OUT reason text, OUT wait interval
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_flow record;
    v_own reliability_breaker;
    v_common reliability_breaker;
BEGIN
    -- At most once a minute: the row would otherwise be written, and its lock waited for, with every permit.
    UPDATE reliability_apikey SET last_used_at = v_now
        WHERE id = p_key AND (last_used_at IS NULL OR last_used_at < v_now - interval '1 minute');
    probe := false;
    reason := '';
    SELECT w.id, w.paused AND coalesce(w.paused_until > v_now, true) AS paused, w.paused_until, l.id AS lane,
            coalesce(l.timeout_ms, w.timeout_ms, p_default_timeout_ms) AS timeout_ms INTO v_flow
        FROM reliability_workflow w LEFT JOIN reliability_lane l ON l.workflow_id = w.id AND l.tenant = p_tenant
        WHERE w.slug = p_workflow;
    IF NOT FOUND THEN
        verdict := 'unknown';
        RETURN;
    END IF;
    IF v_flow.paused THEN
        verdict := 'paused';
        wait := v_flow.paused_until - v_now;
        RETURN;
    END IF;
    -- A call from within n8n shows that n8n runs: an instance's breaker that is due for a probe stops nobody here.
    SELECT * INTO v_common FROM reliability_breaker WHERE scope = 'instance';
    IF FOUND AND v_common.state IN ('open', 'forced_open') AND NOT backstop_breaker_due(v_common, v_now) THEN
        verdict := v_common.state;
        reason := v_common.reason;
        wait := coalesce(v_common.next_probe_at, v_common.forced_until) - v_now;
        RETURN;
    END IF;
    verdict := 'permitted';
    SELECT * INTO v_own FROM reliability_breaker WHERE lane_id = v_flow.lane;
    IF NOT FOUND OR v_own.state = 'closed' THEN
        RETURN;
    END IF;
    IF backstop_breaker_due(v_own, v_now) THEN
        -- A lane's breaker is written under its lane's lock. It is read again there, since another session
        -- may have begun the probe in between: only one may.
        PERFORM 1 FROM reliability_lane WHERE id = v_flow.lane FOR NO KEY UPDATE;
        v_now := clock_timestamp();
        SELECT * INTO v_own FROM reliability_breaker WHERE lane_id = v_flow.lane;
        IF v_own.state = 'closed' THEN
            RETURN;
        END IF;
        IF backstop_breaker_due(v_own, v_now) THEN
            UPDATE reliability_breaker SET state = 'half_open', forced_until = NULL,
                probe_until = v_now + 2 * v_flow.timeout_ms * interval '1 millisecond' + interval '10 seconds'
                WHERE id = v_own.id;
            IF v_own.state <> 'half_open' THEN
                INSERT INTO reliability_breakertransition (breaker_id, from_state, to_state, reason, actor, at)
                    VALUES (v_own.id, v_own.state, 'half_open', v_own.reason, 'permit', v_now);
            END IF;
            probe := true;
            RETURN;
        END IF;
    END IF;
    verdict := v_own.state;
    reason := v_own.reason;
    wait := CASE v_own.state WHEN 'half_open' THEN v_own.probe_until WHEN 'open' THEN v_own.next_probe_at
        ELSE v_own.forced_until END - v_now;
END $$;

-- Records a Stripe event with the deliveries that it leads to; a repeat is counted. `reliability.stripe.ledger`
-- calls it.
--
-- In SQL, since the event's row, each delivery and its wake-up have to commit together, in one statement. Of two
-- sessions that record one event at once, the second waits at the unique constraint, then finds the first one's row.
CREATE OR REPLACE FUNCTION backstop_record_stripe_event(
    p_id uuid, p_endpoint uuid, p_secret uuid, p_account text, p_livemode boolean, p_event text, p_type text,
    p_api_version text, p_object text, p_occurred timestamptz, p_payload text, p_source text, p_ping boolean,
    OUT result text, OUT missing uuid[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_digest bytea;
    v_endpoint record;
    v_account text;
    v_event uuid;
    v_ignored text := '';
    v_stale boolean := false;
    v_slugs text[] := '{}';
    v_ids uuid[] := '{}';
    v_accepted boolean;
BEGIN
    IF EXISTS (SELECT 1 FROM reliability_flag WHERE name = 'stripe' AND NOT enabled) THEN
        result := 'off';
        RETURN;
    END IF;
    SELECT tenant, mode, account, enabled INTO v_endpoint FROM reliability_stripeendpoint WHERE id = p_endpoint;
    IF NOT FOUND OR NOT v_endpoint.enabled THEN
        result := 'closed';
        RETURN;
    END IF;
    IF p_secret IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM reliability_stripesecret WHERE id = p_secret AND active) THEN
        result := 'retired';  -- the caller's cache of the secrets is out of date
        RETURN;
    END IF;
    v_account := coalesce(nullif(p_account, ''), v_endpoint.account);
    SELECT id INTO v_event FROM reliability_stripeevent
        WHERE event_id = p_event AND tenant = v_endpoint.tenant AND account = v_account AND livemode = p_livemode;
    IF NOT FOUND THEN
        IF p_ping THEN
            v_ignored := 'ping';
        ELSIF v_endpoint.mode <> 'any' AND (v_endpoint.mode = 'live') <> p_livemode THEN
            v_ignored := 'mode';
        ELSE
            -- In the order of `reliability.core.lock_order`: by slug, whatever the database's collation is.
            SELECT coalesce(array_agg(slug ORDER BY slug COLLATE "C"), '{}'),
                    coalesce(array_agg(backstop_uuid7()), '{}'),
                    array_agg(id) FILTER (WHERE NOT EXISTS (SELECT 1 FROM reliability_lane
                        WHERE workflow_id = w.id AND tenant = v_endpoint.tenant))
                INTO v_slugs, v_ids, missing FROM reliability_workflow w
                WHERE stripe_events <> '{}' AND backstop_match_event_type(stripe_events, p_type);
            IF missing IS NOT NULL THEN
                result := 'lanes';  -- the caller opens them, and calls again
                RETURN;
            END IF;
            v_stale := p_object <> '' AND EXISTS (SELECT 1 FROM reliability_stripeevent
                WHERE object_id = p_object AND tenant = v_endpoint.tenant AND occurred_at > p_occurred
                    AND account = v_account AND livemode = p_livemode);
        END IF;
        INSERT INTO reliability_stripeevent (id, endpoint_id, secret_id, tenant, account, livemode, event_id, type,
                api_version, object_id, occurred_at, received_at, source, stale, ignored, delivery_ids, payload)
            VALUES (p_id, p_endpoint, p_secret, v_endpoint.tenant, v_account, p_livemode, p_event, p_type,
                p_api_version, p_object, p_occurred, v_now, p_source, v_stale, v_ignored, v_ids, p_payload)
            ON CONFLICT DO NOTHING RETURNING id INTO v_event;
        IF v_event IS NOT NULL THEN
            v_digest := sha256(convert_to(p_payload, 'UTF8'));
            FOR n IN 1..cardinality(v_slugs) LOOP
                -- Two events are never the same payload, so a lane that skips unchanged ones has nothing to compare.
                SELECT accepted INTO v_accepted FROM backstop_accept(v_ids[n], v_slugs[n], v_endpoint.tenant, p_event,
                    p_payload, v_digest, v_now, NULL, 'stripe', v_stale, true, v_now);
                IF NOT v_accepted THEN
                    -- The event's id was used as a key before. The event is delivered all the same, under a longer key.
                    PERFORM backstop_accept(v_ids[n], v_slugs[n], v_endpoint.tenant, p_event || ':' || p_id,
                        p_payload, v_digest, v_now, NULL, 'stripe', v_stale, true, v_now);
                END IF;
            END LOOP;
            result := 'new';
            RETURN;
        END IF;
        SELECT id INTO v_event FROM reliability_stripeevent
            WHERE event_id = p_event AND tenant = v_endpoint.tenant AND account = v_account AND livemode = p_livemode;
    END IF;
    INSERT INTO reliability_striperepeat (event_id, received_at) VALUES (v_event, v_now);
    result := 'repeat';
END $$;

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

-- Makes the totals of dead letters by status exact again, should they ever be wrong. Run it by hand.
--
-- Shard -1 holds the correction: what the table holds, less what all other shards say. Both are counted in one
-- snapshot, so writers need not stop.
CREATE OR REPLACE FUNCTION backstop_recount_dead_letters() RETURNS void LANGUAGE sql AS $$
    INSERT INTO reliability_total (name, key, lane_id, label, shard, count)
    SELECT 'letters', l.workflow_id, l.id, found.status, -1, sum(found.count) FROM (
        SELECT lane_id, status, count(*) AS count FROM reliability_deadletter GROUP BY 1, 2
        UNION ALL
        SELECT lane_id, label, -sum(count) FROM reliability_total
            WHERE name = 'letters' AND shard <> -1 GROUP BY 1, 2
    ) AS found JOIN reliability_lane l ON l.id = found.lane_id GROUP BY 2, 3, 4
    ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = excluded.count
$$;

-- Leaves a wake-up for a lane that the dispatcher could not leave cleanly; its worker passes the barrier instead.
CREATE OR REPLACE FUNCTION backstop_requeue(p_lane integer, p_wait interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_defer_wake(p_lane, 'lane-again:' || p_lane, clock_timestamp() + p_wait);
EXCEPTION WHEN unique_violation THEN
    RETURN;  -- one that waits already serves
END $$;

-- Sets the request id and trace context of the deliveries that this statement inserts; returns `p_id` unchanged.
--
-- It is called as the first argument of `backstop_accept` and its like: PostgreSQL evaluates arguments before it
-- calls the function. The columns' defaults read the settings, so that no function on the way needs two more
-- arguments.
CREATE OR REPLACE FUNCTION backstop_set_request_context(p_id uuid, p_request text, p_trace text) RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
    -- `true`: until the transaction ends.
    PERFORM set_config('backstop.request_id', p_request, true), set_config('backstop.traceparent', p_trace, true);
    RETURN p_id;
END $$;

-- The outbox: what triggers count is collected in `backstop_outbox`, and applied once, when the transaction commits.
--
-- Counted at once, a row of a group or a total would stay locked until the transaction ends, in whatever order the
-- transaction happened to touch them: every other writer would wait, and two could deadlock. At commit, a transaction
-- applies all its changes in one order (groups, deaths, totals, each by its key), and the locks last a moment only.
-- A transaction that rolls back takes its changes along.
--
-- Whoever reads a group or a total that its own transaction changed executes `SET CONSTRAINTS backstop_outbox_apply
-- IMMEDIATE` first.
CREATE OR REPLACE FUNCTION backstop_apply_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_changes backstop_outbox[];
BEGIN
    WITH taken AS (DELETE FROM backstop_outbox o WHERE o.xact = pg_current_xact_id() RETURNING o)
        SELECT array_agg(taken.o) INTO v_changes FROM taken;
    DELETE FROM backstop_outbox_due WHERE xact = pg_current_xact_id();

    INSERT INTO reliability_failuregroup AS g
        (id, workflow_id, fingerprint, reason, code, message, dead, seen, first_at, last_at)
    SELECT gen_random_uuid(), workflow_id, fingerprint, max(reason), max(code), max(message),
        sum(dead), sum(seen), min(first_at), max(last_at)
    FROM unnest(v_changes) WHERE kind = 'failure' AND fingerprint <> ''
    -- ORDER BY is the lock order: the rows are locked one by one, as they arrive.
    GROUP BY workflow_id, fingerprint ORDER BY workflow_id, fingerprint
    -- A change without a reason only counts down: its message and times are not those of a new failure.
    ON CONFLICT (workflow_id, fingerprint) DO UPDATE SET
        dead = g.dead + excluded.dead, seen = g.seen + excluded.seen,
        message = CASE WHEN excluded.reason <> '' AND excluded.last_at >= g.last_at
            THEN excluded.message ELSE g.message END,
        first_at = CASE WHEN excluded.reason <> '' THEN least(g.first_at, excluded.first_at) ELSE g.first_at END,
        last_at = CASE WHEN excluded.reason <> '' THEN greatest(g.last_at, excluded.last_at) ELSE g.last_at END;

    INSERT INTO reliability_deathrollup AS r (grain, at, lane_id, reason, count)
    SELECT grain, at, lane_id, reason, sum(died)
    FROM unnest(v_changes), LATERAL (VALUES ('hour', date_trunc('hour', last_at, 'UTC')),
        ('minute', date_trunc('minute', last_at, 'UTC'))) AS t(grain, at)
    WHERE kind = 'failure' AND died > 0
    GROUP BY grain, at, lane_id, reason ORDER BY grain, at, lane_id, reason
    ON CONFLICT (grain, at, lane_id, reason) DO UPDATE SET count = r.count + excluded.count;

    INSERT INTO reliability_total AS t (name, key, lane_id, label, shard, count)
    SELECT name, key, lane_id, label, pg_backend_pid() % 16, sum(count)
    FROM unnest(v_changes) WHERE kind = 'total'
    GROUP BY name, key, lane_id, label HAVING sum(count) <> 0 ORDER BY name, key, lane_id, label
    ON CONFLICT (name, key, lane_id, label, shard) DO UPDATE SET count = t.count + excluded.count;
    RETURN NULL;
END $$;

-- One row a transaction: set off by each change, the deferred trigger would run as often as there are changes.
CREATE OR REPLACE FUNCTION backstop_mark_outbox_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A statement that inserted nothing sets off its triggers, too.
    IF EXISTS (SELECT 1 FROM added) THEN
        INSERT INTO backstop_outbox_due (xact) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS backstop_outbox_due ON backstop_outbox;
CREATE TRIGGER backstop_outbox_due
    AFTER INSERT ON backstop_outbox
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_mark_outbox_due();

DROP TRIGGER IF EXISTS backstop_outbox_apply ON backstop_outbox_due;
CREATE CONSTRAINT TRIGGER backstop_outbox_apply
    AFTER INSERT ON backstop_outbox_due
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION backstop_apply_outbox();

-- Puts into the outbox what each statement changes in failure groups, deaths by reason, and totals of dead letters.
--
-- What was counts down, what is counts up. A dead letter that moves on (replaying, recovered) stays in its group, but
-- is not among its `dead` any more. `died` counts a death: it is dead, and at a moment at which it was not before.
-- Changes are added up by minute, since deaths are. A group's message keeps up to 500 characters.
--
-- Statement triggers, since bulk operations and clean-up change thousands of rows at once.
CREATE OR REPLACE FUNCTION backstop_record_dead_letter_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO backstop_outbox
            (kind, workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT 'failure', l.workflow_id, n.lane_id, n.fingerprint, n.reason, min(n.error_code),
            max(left(n.error_message, 500)),
            count(*) FILTER (WHERE n.status = 'dead'), count(*), count(*) FILTER (WHERE n.status = 'dead'),
            min(n.died_at), max(n.died_at)
        FROM after n JOIN reliability_lane l ON l.id = n.lane_id
        GROUP BY l.workflow_id, n.lane_id, n.fingerprint, n.reason, date_trunc('minute', n.died_at);
        INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', change.name, l.workflow_id, l.id, change.label, count(*) FROM after n
            JOIN reliability_lane l ON l.id = n.lane_id,
            LATERAL (VALUES ('letters', n.status), ('deaths', n.reason)) AS change(name, label)
        WHERE change.name = 'letters' OR n.status = 'dead' GROUP BY 2, 3, 4, 5;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO backstop_outbox
            (kind, workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT 'failure', l.workflow_id, o.lane_id, o.fingerprint, '', '', '', -count(*), 0, 0,
            min(o.died_at), max(o.died_at)
        FROM before o JOIN reliability_lane l ON l.id = o.lane_id
        WHERE o.status = 'dead'
        GROUP BY l.workflow_id, o.lane_id, o.fingerprint;
        INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'letters', l.workflow_id, l.id, o.status, -count(*) FROM before o
            JOIN reliability_lane l ON l.id = o.lane_id GROUP BY 3, 4, 5;
    ELSE
        INSERT INTO backstop_outbox
            (kind, workflow_id, lane_id, fingerprint, reason, code, message, dead, seen, died, first_at, last_at)
        SELECT 'failure', workflow_id, lane_id, fingerprint, reason, min(code),
            max(left(message, 500)), sum(dead), sum(seen), sum(died), min(died_at), max(died_at)
        FROM (
            SELECT l.workflow_id, o.lane_id, o.fingerprint, '' AS reason, '' AS code, '' AS message,
                -(o.status = 'dead')::int AS dead, 0 AS seen, 0 AS died, o.died_at
            FROM before o JOIN after n ON n.id = o.id JOIN reliability_lane l ON l.id = o.lane_id
            WHERE o.status = 'dead'
                AND (n.status, n.fingerprint, n.lane_id) IS DISTINCT FROM (o.status, o.fingerprint, o.lane_id)
            UNION ALL
            SELECT l.workflow_id, n.lane_id, n.fingerprint, n.reason, n.error_code, n.error_message,
                CASE WHEN n.status = 'dead' AND (n.status, n.fingerprint, n.lane_id)
                    IS DISTINCT FROM (o.status, o.fingerprint, o.lane_id) THEN 1 ELSE 0 END,
                CASE WHEN (n.fingerprint, n.lane_id) IS DISTINCT FROM (o.fingerprint, o.lane_id) THEN 1 ELSE 0 END,
                CASE WHEN n.status = 'dead' AND n.died_at <> o.died_at THEN 1 ELSE 0 END, n.died_at
            FROM before o JOIN after n ON n.id = o.id JOIN reliability_lane l ON l.id = n.lane_id
            WHERE (n.fingerprint, n.lane_id) IS DISTINCT FROM (o.fingerprint, o.lane_id)
                OR n.status = 'dead' AND (o.status <> 'dead' OR n.died_at <> o.died_at)
        ) AS change
        -- The minute matters for deaths alone: without one, all changes of a group are one row.
        GROUP BY workflow_id, lane_id, fingerprint, reason,
            CASE WHEN died > 0 THEN date_trunc('minute', died_at) END;
        INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', change.name, coalesce(l.workflow_id::text, ''), change.lane_id, change.label, sum(change.count)
        FROM (
            SELECT moved.name, moved.lane_id, moved.label, moved.count FROM before o JOIN after n ON n.id = o.id,
                LATERAL (VALUES ('letters', o.lane_id, o.status, -1), ('letters', n.lane_id, n.status, 1))
                    AS moved(name, lane_id, label, count)
            WHERE (n.status, n.lane_id) IS DISTINCT FROM (o.status, o.lane_id)
            UNION ALL
            SELECT 'deaths', n.lane_id, n.reason, 1 FROM before o JOIN after n ON n.id = o.id
            WHERE n.status = 'dead' AND n.died_at <> o.died_at
            UNION ALL
            -- Of no lane (0). The demo's dead letters, whose ids have this pattern, do not count as expired.
            SELECT 'expired', 0, '', 1 FROM before o JOIN after n ON n.id = o.id
            WHERE n.status = 'archived' AND o.status <> 'archived' AND n.id::text NOT LIKE '%-7de0-8de0-%'
        ) AS change LEFT JOIN reliability_lane l ON l.id = change.lane_id GROUP BY 2, 3, 4, 5;
    END IF;
    RETURN NULL;
END $$;

-- TRUNCATE has no transition tables; after it, no dead letter is left. It does not use the outbox: it locks the whole
-- table anyway.
CREATE OR REPLACE FUNCTION backstop_reset_dead_letter_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliability_failuregroup SET dead = 0 WHERE dead <> 0;
    DELETE FROM reliability_total WHERE name = 'letters';
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS backstop_dead_letter_insert ON reliability_deadletter;
CREATE TRIGGER backstop_dead_letter_insert
    AFTER INSERT ON reliability_deadletter
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_changes();

DROP TRIGGER IF EXISTS backstop_dead_letter_update ON reliability_deadletter;
CREATE TRIGGER backstop_dead_letter_update
    AFTER UPDATE ON reliability_deadletter
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_changes();

DROP TRIGGER IF EXISTS backstop_dead_letter_delete ON reliability_deadletter;
CREATE TRIGGER backstop_dead_letter_delete
    AFTER DELETE ON reliability_deadletter
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_record_dead_letter_changes();

CREATE OR REPLACE TRIGGER backstop_dead_letter_truncate
    AFTER TRUNCATE ON reliability_deadletter
    FOR EACH STATEMENT
    EXECUTE FUNCTION backstop_reset_dead_letter_counts();

-- When a replay of a bulk operation ends, counts how, and wakes the operation if it waits for that.
--
-- The count is a row of the operation and the lane: the lane's lock orders these transactions anyway, so they do not
-- queue for the operation's own row. Of that row they take only a key share, which a step's own lock lets pass. A
-- step that is about to wait for the ends takes the full lock (`bulk.steps`): either it sees this end, or this end
-- sees it waiting.
CREATE OR REPLACE FUNCTION backstop_count_operation_result(
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
        PERFORM backstop_wake_operation(p_operation, clock_timestamp());
    END IF;
END $$;

CREATE OR REPLACE FUNCTION backstop_count_operation_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_count_operation_result(NEW.operation_id, NEW.lane_id,
        (NEW.state = 'delivered')::int - (OLD.state = 'delivered')::int,
        (NEW.state = 'dead')::int - (OLD.state = 'dead')::int,
        (NEW.state IN ('cancelled', 'skipped'))::int - (OLD.state IN ('cancelled', 'skipped'))::int);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_count_operation_retry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backstop_count_operation_result(NEW.operation_id, l.lane_id,
        (NEW.state = 'succeeded')::int - (OLD.state = 'succeeded')::int,
        (NEW.state = 'failed')::int - (OLD.state = 'failed')::int, 0)
        FROM reliability_deadletter l WHERE l.id = NEW.dead_letter_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER backstop_operation_delivery
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (NEW.operation_id IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION backstop_count_operation_delivery();

CREATE OR REPLACE TRIGGER backstop_operation_retry
    AFTER UPDATE OF state ON reliability_executionretry
    FOR EACH ROW WHEN (NEW.operation_id IS NOT NULL AND NEW.state <> OLD.state)
    EXECUTE FUNCTION backstop_count_operation_retry();

-- When a cron job's delivery ends, releases those that waited for it (`waits_for`), and wakes their lanes.
--
-- In the transaction that ends it, whoever does. Who makes a delivery wait locks the earlier one's row first (`FOR
-- NO KEY UPDATE`): either it sees that one ended, or this trigger sees the new one. The WHEN clause keeps all other
-- deliveries, which are nearly all, from calling the function.
CREATE OR REPLACE FUNCTION backstop_release_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_lane integer;
BEGIN
    FOR v_lane IN
        -- If the ended one still waited for another itself, those behind it now wait for that one.
        UPDATE reliability_delivery SET waits_for = NEW.waits_for WHERE waits_for = NEW.id RETURNING lane_id
    LOOP
        PERFORM backstop_wake(v_lane);
    END LOOP;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER backstop_release_waiting
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (
        NEW.source = 'cron' AND OLD.state IN ('pending', 'sending', 'awaiting_callback')
        AND NEW.state NOT IN ('pending', 'sending', 'awaiting_callback'))
    EXECUTE FUNCTION backstop_release_waiting();

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

-- Puts into the outbox what is counted in totals and is rare: ended deliveries, executions, breaker transitions.
--
-- Triggers, so that nothing is missed, whoever writes. What is frequent is counted by `add_results.sql`.
CREATE OR REPLACE FUNCTION backstop_record_ended_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'ended', workflow_id, id, NEW.state, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_execution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'executions', workflow_id, id, NEW.status, 1 FROM reliability_lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION backstop_record_breaker_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The instance's breaker has no lane: key '' and lane 0.
    INSERT INTO backstop_outbox (kind, name, key, lane_id, label, count)
        SELECT 'total', 'transitions', coalesce(l.workflow_id::text, ''), coalesce(l.id, 0), NEW.to_state, 1
        FROM reliability_breaker b LEFT JOIN reliability_lane l ON l.id = b.lane_id WHERE b.id = NEW.breaker_id;
    RETURN NULL;
END $$;

-- The WHEN clause keeps all other deliveries, which are nearly all, from calling the function.
CREATE OR REPLACE TRIGGER backstop_total_ended
    AFTER UPDATE OF state ON reliability_delivery
    FOR EACH ROW WHEN (NEW.state IN ('cancelled', 'skipped') AND OLD.state <> NEW.state)
    EXECUTE FUNCTION backstop_record_ended_delivery();

CREATE OR REPLACE TRIGGER backstop_total_execution
    AFTER INSERT ON reliability_execution
    FOR EACH ROW
    EXECUTE FUNCTION backstop_record_execution();

CREATE OR REPLACE TRIGGER backstop_total_execution_again
    AFTER UPDATE OF status ON reliability_execution
    FOR EACH ROW WHEN (NEW.status <> OLD.status)
    EXECUTE FUNCTION backstop_record_execution();

CREATE OR REPLACE TRIGGER backstop_total_transition
    AFTER INSERT ON reliability_breakertransition
    FOR EACH ROW
    EXECUTE FUNCTION backstop_record_breaker_transition();

-- Takes the locks under which a transaction may write a wake-up that other transactions rely on; never waits.
--
-- The first is the lane's barrier (1112757840 is `reliability.queue.wakeups.LANE_LOCK`): its holders rely on a
-- wake-up or write one, and a dispatcher that wants to leave the lane takes it exclusively. The second lets one
-- transaction at a time write the shared wake-up: another would wait at the unique index on `queueing_lock` until
-- the first one commits.
CREATE OR REPLACE FUNCTION backstop_try_lock_wake(p_lane integer) RETURNS boolean LANGUAGE sql AS $$
    SELECT pg_try_advisory_xact_lock_shared(1112757840, p_lane) AND pg_try_advisory_xact_lock(1112757841, p_lane)
$$;

-- A UUID of version 7, as `reliability.models.ids.uuid7` makes them (PostgreSQL has its own from version 18 on).
CREATE OR REPLACE FUNCTION backstop_uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    -- RFC 9562, 5.7: 48 bits of milliseconds, the version, 74 random bits. A random UUID supplies those.
    SELECT encode(set_byte(
        substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            || substring(random FROM 7),
        6, (get_byte(random, 6) & 15) | 112), 'hex')::uuid
    FROM (SELECT uuid_send(gen_random_uuid()) AS random) AS made
$$;

-- Wakes a lane now: makes sure that a dispatcher looks at it after this transaction commits. Never waits.
--
-- It inserts nothing where a dispatcher is attending the lane or a wake-up is waiting. Both may be relied on only
-- under the lane's shared lock, which this transaction keeps to its end (see `reliability.queue`).
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
    -- Without the locks, a wake-up of this transaction's own: waiting for the others could hold up every lane.
    IF NOT backstop_try_lock_wake(p_lane) THEN
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
    -- A second wake-up, in case the worker that takes the first one dies.
    PERFORM backstop_wake_at(p_lane, clock_timestamp() + interval '60 seconds');
END $$;

-- Wakes a lane at `p_at`; a wake-up that is planned later is moved. Never waits for another transaction's.
--
-- A transaction that cannot get the locks writes a wake-up under a key of its own: one too many does no harm.
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
    IF NOT backstop_try_lock_wake(p_lane) THEN
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
                    -- Procrastinate notifies workers of inserts only, so send the messages of its insert trigger.
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

-- Wakes a bulk operation at `p_at`, with a second wake-up 5 seconds later in case the worker of the first dies.
--
-- There is one waiting job for each key; one that is planned later is moved. Five tries, since another transaction
-- may plan or take the job between the look and the write.
CREATE OR REPLACE FUNCTION backstop_wake_operation_by_key(p_operation uuid, p_key text, p_at timestamptz) RETURNS void
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
                    -- Procrastinate notifies workers of inserts only, so send the messages of its insert trigger.
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

CREATE OR REPLACE FUNCTION backstop_wake_operation_standby(p_operation uuid, p_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT backstop_wake_operation_by_key(
        p_operation, 'operation-stand-by:' || p_operation, p_at + interval '5 seconds')
$$;

CREATE OR REPLACE FUNCTION backstop_wake_operation(p_operation uuid, p_at timestamptz) RETURNS void
LANGUAGE sql AS $$
    SELECT backstop_wake_operation_by_key(p_operation, 'operation:' || p_operation, p_at),
        backstop_wake_operation_standby(p_operation, p_at)
$$;
