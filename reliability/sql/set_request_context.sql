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
