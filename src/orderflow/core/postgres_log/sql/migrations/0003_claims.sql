-- Whose topics and groups are.

CREATE TABLE claims (
    register   text        NOT NULL,
    name       text        NOT NULL,
    owner      uuid        NOT NULL,
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (register, name)
);
COMMENT ON TABLE claims IS
    'Topics and groups, and the installation that uses them as its own. Names are "topic x" and "group y".';

CREATE FUNCTION claim_names(p_register text, p_owner uuid, p_names text[], p_takes_over boolean)
RETURNS SETOF claims LANGUAGE plpgsql AS $$
BEGIN
    -- One at a time: of two who claim what overlaps, one gets all that it asked for.
    LOCK TABLE claims IN SHARE ROW EXCLUSIVE MODE;
    RETURN QUERY
    SELECT * FROM claims c
     WHERE c.register = p_register AND c.name = ANY (p_names) AND c.owner <> p_owner AND NOT p_takes_over;
    IF NOT FOUND THEN
        INSERT INTO claims AS c (register, name, owner, claimed_at)
        SELECT p_register, n, p_owner, clock_timestamp() FROM unnest(p_names) AS n
        ON CONFLICT (register, name) DO UPDATE SET owner = p_owner, claimed_at = clock_timestamp()
        WHERE c.owner <> p_owner;
    END IF;
END
$$;
COMMENT ON FUNCTION claim_names IS
    'Claims all names for an installation, or returns those that are another''s and claims nothing.';
