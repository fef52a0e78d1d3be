-- The operators' log is a chain: each row holds the SHA-256 of the row before it and of what it says itself.
-- The database links the rows, so that those of an earlier release, which knows of no chain, are in it too.

ALTER TABLE operator_actions ADD COLUMN hash bytea;

CREATE FUNCTION operator_action_hash(previous bytea, entry operator_actions) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT sha256(previous || string_agg(
        convert_to(octet_length(convert_to(field, 'UTF8')) || ':' || field || ',', 'UTF8'), ''::bytea ORDER BY place
    ))
    FROM unnest(ARRAY[
        entry.number::text, (extract(epoch FROM entry.at) * 1000000)::bigint::text, entry.who, entry.action,
        entry.target, entry.reason, entry.result
    ]) WITH ORDINALITY AS content (field, place)
$$;
COMMENT ON FUNCTION operator_action_hash IS
    'The hash of a row: over the hash of the row before it (32 zero bytes before the first one), and each field as a netstring.';

CREATE FUNCTION chain_operator_action() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_number bigint;
    v_hash   bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(1868981604, 0);
    SELECT number, hash INTO v_number, v_hash FROM operator_actions ORDER BY number DESC LIMIT 1;
    NEW.number := coalesce(v_number, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.hash := operator_action_hash(coalesce(v_hash, decode(repeat('00', 32), 'hex')), NEW);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION chain_operator_action IS
    'Numbers and links a row behind the last one, one transaction at a time: no fork, and no number is left out.';

DO $$
DECLARE
    v_entry operator_actions;
    v_hash  bytea := decode(repeat('00', 32), 'hex');
BEGIN
    FOR v_entry IN SELECT * FROM operator_actions ORDER BY number LOOP
        v_hash := operator_action_hash(v_hash, v_entry);
        UPDATE operator_actions SET hash = v_hash WHERE number = v_entry.number;
    END LOOP;
END $$;

ALTER TABLE operator_actions ALTER COLUMN hash SET NOT NULL;
CREATE TRIGGER operator_actions_chained BEFORE INSERT ON operator_actions
    FOR EACH ROW EXECUTE FUNCTION chain_operator_action();
COMMENT ON TABLE operator_actions IS
    'Who did what, when, why, and with what result. Rows are only added, each linked to the one before it by its hash.';
