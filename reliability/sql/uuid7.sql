-- A UUID of version 7, as `reliability.models.ids.uuid7` makes them (PostgreSQL has its own from version 18 on).
CREATE OR REPLACE FUNCTION backstop_uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    -- RFC 9562, 5.7: 48 bits of milliseconds, the version, 74 random bits. A random UUID supplies those.
    SELECT encode(set_byte(
        substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            || substring(random FROM 7),
        6, (get_byte(random, 6) & 15) | 112), 'hex')::uuid
    FROM (SELECT uuid_send(gen_random_uuid()) AS random) AS made
$$;
