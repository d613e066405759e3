CREATE OR REPLACE FUNCTION backstop_matches(p_patterns text[], p_type text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- '*' stands for anything, all else for itself.
    SELECT EXISTS (SELECT 1 FROM unnest(p_patterns) AS pattern WHERE p_type LIKE
        replace(replace(replace(replace(pattern, '\', '\\'), '_', '\_'), '%', '\%'), '*', '%'))
$$;
