-- A notice says where records were appended, and brings them along where they are few. One call renews a lease,
-- writes offsets and says what is there. A lease that ends later than any can is none.

ALTER TABLE group_members ADD COLUMN session_ms integer;
COMMENT ON COLUMN group_members.session_ms IS
    'For how long the lease was taken. NULL: joined before this column was there, and not renewed since.';

CREATE FUNCTION append_batch(
    p_partitions integer[], p_counts integer[], p_channels text[], p_bodies text[],
    p_seats integer[], p_ranks integer[], p_keys bytea[], p_values bytea[], p_headers bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_at_ms   bigint := extract(epoch FROM statement_timestamp()) * 1000;
    v_segment smallint;
    v_base    bigint;
    v_bases   bigint[] := '{}';
BEGIN
    -- Against rotate_segments: the segment read below stays open until this transaction ends.
    LOCK TABLE records IN ROW EXCLUSIVE MODE;
    SELECT segment INTO STRICT v_segment FROM segments WHERE opened_at IS NOT NULL AND closed_at IS NULL;
    -- In the order given, which is sorted: two appenders cannot wait for each other.
    FOR i IN 1..cardinality(p_partitions) LOOP
        UPDATE partitions SET next_offset = next_offset + p_counts[i]
         WHERE id = p_partitions[i]
        RETURNING next_offset - p_counts[i] INTO STRICT v_base;
        v_bases[i] := v_base;
    END LOOP;
    INSERT INTO records (segment, partition_id, "offset", at_ms, key, value, headers)
    SELECT v_segment, p_partitions[r.seat], v_bases[r.seat] + r.rank, v_at_ms, r.key, r.value, r.headers
      FROM unnest(p_seats, p_ranks, p_keys, p_values, p_headers) AS r (seat, rank, key, value, headers);
    -- PostgreSQL takes 7,999 bytes. A list that is longer even without records is said as the empty text: any of them.
    PERFORM pg_notify(n.channel, CASE WHEN octet_length(n.payload) < 8000 THEN n.payload ELSE '' END)
       FROM (
        SELECT s.channel,
               v_at_ms || ' ' || string_agg(concat_ws(':', s.partition_id, s.base, s.count, s.body), ' ') AS payload
          FROM unnest(p_channels, p_partitions, v_bases, p_counts, p_bodies)
            AS s (channel, partition_id, base, count, body)
         GROUP BY s.channel
       ) n;
END
$$;
COMMENT ON FUNCTION append_batch IS
    'Partitions, sorted, with the number of records, the channel and the body of the notice of each; then, for each
     record, the seat of its partition in that list (from 1) and its rank within it (from 0), key, value, headers.';

CREATE OR REPLACE FUNCTION dead_members(p_group integer) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT m.member
      FROM group_members m
     WHERE m.group_id = p_group
       AND (m.expires_at < clock_timestamp()
            -- Taken while the clock was ahead: it would be waited for until the clock comes there again.
            OR m.expires_at > clock_timestamp() + m.session_ms * interval '2 milliseconds'
            OR NOT EXISTS (SELECT FROM pg_stat_get_activity(m.backend_pid) a
                            WHERE a.backend_start = m.backend_start))
$$;
COMMENT ON FUNCTION dead_members IS
    'Whose lease has run out, or ends later than any that is taken now, and whose connection is gone.';

CREATE OR REPLACE FUNCTION join_group(p_group text, p_member uuid, p_topics text[], p_session_ms integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_group integer;
BEGIN
    INSERT INTO groups (name) VALUES (p_group) ON CONFLICT (name) DO NOTHING;
    SELECT id INTO STRICT v_group FROM groups WHERE name = p_group FOR UPDATE;
    DELETE FROM group_members WHERE member IN (SELECT dead_members(v_group));
    INSERT INTO group_members
        (member, group_id, topics, joined_at, expires_at, session_ms, backend_pid, backend_start)
    SELECT p_member, v_group, p_topics, clock_timestamp(),
           clock_timestamp() + p_session_ms * interval '1 millisecond', p_session_ms, a.pid, a.backend_start
      FROM pg_stat_get_activity(pg_backend_pid()) a;
    INSERT INTO group_offsets (group_id, partition_id, committed)
    SELECT v_group, p.id, p.first_offset
      FROM partitions p JOIN topics t ON t.id = p.topic_id
     WHERE t.name = ANY (p_topics)
    ON CONFLICT (group_id, partition_id) DO NOTHING;
    PERFORM rebalance_group(v_group);
    RETURN v_group;
END
$$;

CREATE FUNCTION renew_lease(
    p_group integer, p_member uuid, p_session_ms integer,
    p_partitions integer[], p_generations bigint[], p_committed bigint[]
) RETURNS TABLE (partition_id integer, owner_generation bigint, committed bigint, next_offset bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- The group before any member, here as everywhere: two heartbeats cannot wait for each other.
    IF EXISTS (SELECT FROM dead_members(p_group) AS d WHERE d <> p_member) THEN
        PERFORM FROM groups WHERE id = p_group FOR UPDATE;
        DELETE FROM group_members WHERE member IN (SELECT d FROM dead_members(p_group) AS d WHERE d <> p_member);
        IF FOUND THEN
            PERFORM rebalance_group(p_group);
        END IF;
    END IF;
    UPDATE group_members m
       SET expires_at = clock_timestamp() + p_session_ms * interval '1 millisecond', session_ms = p_session_ms,
           backend_pid = a.pid, backend_start = a.backend_start
      FROM pg_stat_get_activity(pg_backend_pid()) a
     WHERE m.member = p_member;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE group_offsets o SET committed = greatest(o.committed, s.done)
      FROM unnest(p_partitions, p_generations, p_committed) AS s (id, generation, done)
     WHERE o.group_id = p_group AND o.owner = p_member
       AND o.partition_id = s.id AND o.owner_generation = s.generation;
    RETURN QUERY
    SELECT o.partition_id, o.owner_generation, o.committed, p.next_offset
      FROM groups g
      LEFT JOIN (group_offsets o JOIN partitions p ON p.id = o.partition_id)
        ON o.group_id = g.id AND o.owner = p_member
     WHERE g.id = p_group;
END
$$;
COMMENT ON FUNCTION renew_lease IS
    'Renews the lease and puts out members that are dead, moves offsets forward where the member still holds the
     partition since the generation that it names, and returns what it holds, and where each partition ends: one row
     of nulls if it holds nothing, no row if it was put out itself and has to join anew.';

-- For members of the release before, which run beside while a deployment rolls.
CREATE OR REPLACE FUNCTION heartbeat(p_group integer, p_member uuid, p_session_ms integer)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM renew_lease(p_group, p_member, p_session_ms, '{}', '{}', '{}');
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT generation FROM groups WHERE id = p_group);
END
$$;
