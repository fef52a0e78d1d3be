-- Members say where they can be rung, and an appender rings those of its machine itself. Only for the others it
-- notifies, since that wakes every session of the database that listens to anything.

ALTER TABLE group_members ADD COLUMN doorbell text;
COMMENT ON COLUMN group_members.doorbell IS
    'The socket at which the member''s process is told of records, by appenders that reach it. NULL: by notices alone.';
CREATE INDEX group_offsets_partition ON group_offsets (partition_id);

CREATE FUNCTION append_and_tell(
    p_partitions integer[], p_counts integer[], p_channels text[], p_bodies text[],
    p_seats integer[], p_ranks integer[], p_keys bytea[], p_values bytea[], p_headers bytea[], p_doorbells text[],
    OUT at_ms bigint, OUT bases bigint[], OUT doorbells text[], OUT seats integer[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_segment smallint;
    v_base    bigint;
    v_untold  integer[];
BEGIN
    at_ms := extract(epoch FROM statement_timestamp()) * 1000;
    bases := '{}';
    -- Against rotate_segments: the segment read below stays open until this transaction ends.
    LOCK TABLE records IN ROW EXCLUSIVE MODE;
    SELECT segment INTO STRICT v_segment FROM segments WHERE opened_at IS NOT NULL AND closed_at IS NULL;
    -- In the order given, which is sorted: two appenders cannot wait for each other.
    FOR i IN 1..cardinality(p_partitions) LOOP
        UPDATE partitions SET next_offset = next_offset + p_counts[i]
         WHERE id = p_partitions[i]
        RETURNING next_offset - p_counts[i] INTO STRICT v_base;
        bases[i] := v_base;
    END LOOP;
    INSERT INTO records (segment, partition_id, "offset", at_ms, key, value, headers)
    SELECT v_segment, p_partitions[r.seat], bases[r.seat] + r.rank, append_and_tell.at_ms, r.key, r.value, r.headers
      FROM unnest(p_seats, p_ranks, p_keys, p_values, p_headers) AS r (seat, rank, key, value, headers);
    SELECT array_agg(m.doorbell) FILTER (WHERE m.doorbell IS NOT NULL),
           array_agg(p.seat::integer) FILTER (WHERE m.doorbell IS NOT NULL),
           array_agg(p.id) FILTER (WHERE m.doorbell IS NULL OR m.doorbell <> ALL (p_doorbells))
      INTO doorbells, seats, v_untold
      FROM unnest(p_partitions) WITH ORDINALITY AS p (id, seat)
      JOIN group_offsets o ON o.partition_id = p.id
      JOIN group_members m ON m.member = o.owner;
    -- PostgreSQL takes 7,999 bytes. A list that is longer even without records is said as the empty text: any of them.
    IF v_untold IS NOT NULL THEN
        PERFORM pg_notify(n.channel, CASE WHEN octet_length(n.payload) < 8000 THEN n.payload ELSE '' END)
           FROM (
            SELECT s.channel, append_and_tell.at_ms || ' '
                   || string_agg(concat_ws(':', s.partition_id, s.base, s.count, s.body), ' ') AS payload
              FROM unnest(p_channels, p_partitions, bases, p_counts, p_bodies)
                AS s (channel, partition_id, base, count, body)
             GROUP BY s.channel
            HAVING bool_or(s.partition_id = ANY (v_untold))
           ) n;
    END IF;
END
$$;
COMMENT ON FUNCTION append_and_tell IS
    'Partitions, sorted, with the number of records, the channel and the body of the notice of each; then, for each
     record, the seat of its partition in that list (from 1) and its rank within it (from 0), key, value, headers; then
     the doorbells that the appender reaches. Returns the time, where each partition was appended to, and whom to ring
     for which seat. Who has no such doorbell is notified.';

-- For appenders of the release before, which run beside while a deployment rolls: they ring nobody.
CREATE OR REPLACE FUNCTION append_batch(
    p_partitions integer[], p_counts integer[], p_channels text[], p_bodies text[],
    p_seats integer[], p_ranks integer[], p_keys bytea[], p_values bytea[], p_headers bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM append_and_tell(
        p_partitions, p_counts, p_channels, p_bodies, p_seats, p_ranks, p_keys, p_values, p_headers, '{}');
END
$$;
