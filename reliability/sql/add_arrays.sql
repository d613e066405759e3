-- Adds two arrays element by element; the result is as long as the longer one. For histograms.
CREATE OR REPLACE FUNCTION backstop_add_arrays(p_a bigint[], p_b bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    FOR i IN 1..cardinality(p_b) LOOP
        p_a[i] := coalesce(p_a[i], 0) + p_b[i];
    END LOOP;
    RETURN p_a;
END $$;
