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
