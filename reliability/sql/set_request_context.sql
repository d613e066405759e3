CREATE OR REPLACE FUNCTION backstop_set_request_context(p_id uuid, p_request text, p_trace text) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    -- Until the transaction ends; an argument is worked out before the function it is for is called.
    PERFORM set_config('backstop.request_id', p_request, true), set_config('backstop.traceparent', p_trace, true);
    RETURN p_id;
END $$;
