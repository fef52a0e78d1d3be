-- Topics, partitions, consumer groups: Kafka's model in tables. One database holds one log.

CREATE TABLE topics (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text    NOT NULL UNIQUE,
    partitions   integer NOT NULL CHECK (partitions > 0),
    retention_ms bigint  NOT NULL CHECK (retention_ms > 0)
);

CREATE TABLE partitions (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id     integer NOT NULL REFERENCES topics (id),
    number       integer NOT NULL CHECK (number >= 0),
    first_offset bigint  NOT NULL DEFAULT 0,
    next_offset  bigint  NOT NULL DEFAULT 0 CHECK (next_offset >= first_offset),
    UNIQUE (topic_id, number)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN partitions.next_offset IS
    'Counted up by the appending transaction, which holds this row until it commits: no gaps, and commit order.';

CREATE TABLE records (
    segment      smallint NOT NULL,
    partition_id integer  NOT NULL,
    "offset"     bigint   NOT NULL,
    at_ms        bigint   NOT NULL,
    key          bytea,
    value        bytea,
    headers      bytea    NOT NULL
) PARTITION BY LIST (segment);
COMMENT ON TABLE records IS
    'Appended only. A segment is a span of time; the oldest is emptied by TRUNCATE and used again.';

CREATE TABLE segments (
    segment   smallint PRIMARY KEY CHECK (segment BETWEEN 0 AND 7),
    opened_at timestamptz,
    closed_at timestamptz CHECK (closed_at >= opened_at)
);
COMMENT ON TABLE segments IS 'Free: neither time. Open: opened_at alone. Closed: both; nothing is added any more.';
CREATE UNIQUE INDEX segments_one_open ON segments ((true)) WHERE opened_at IS NOT NULL AND closed_at IS NULL;

DO $$
BEGIN
    FOR n IN 0..7 LOOP
        EXECUTE format(
            'CREATE TABLE records_%1$s PARTITION OF records (PRIMARY KEY (partition_id, "offset")) '
            'FOR VALUES IN (%1$s) WITH (autovacuum_vacuum_insert_threshold = -1)', n);
        INSERT INTO segments (segment, opened_at) VALUES (n, CASE n WHEN 0 THEN clock_timestamp() END);
    END LOOP;
END
$$;

CREATE TABLE groups (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text    NOT NULL UNIQUE,
    generation bigint  NOT NULL DEFAULT 0
);

CREATE UNLOGGED TABLE group_members (
    member        uuid        PRIMARY KEY,
    group_id      integer     NOT NULL,
    topics        text[]      NOT NULL,
    joined_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    backend_pid   integer     NOT NULL,
    backend_start timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE group_members IS
    'Leases. Not logged: heartbeats cost no WAL, and after a crash every member joins again under a new name.';

CREATE TABLE group_offsets (
    group_id         integer NOT NULL REFERENCES groups (id),
    partition_id     integer NOT NULL REFERENCES partitions (id),
    committed        bigint  NOT NULL DEFAULT 0,
    owner            uuid,
    owner_generation bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, partition_id)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN group_offsets.owner_generation IS
    'The group generation in which the owner got the partition. A settle names both, or it has no effect.';

CREATE FUNCTION append_records(
    p_partitions integer[], p_counts integer[], p_seats integer[], p_ranks integer[],
    p_keys bytea[], p_values bytea[], p_headers bytea[], p_channels text[], p_payloads text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
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
    SELECT v_segment, p_partitions[r.seat], v_bases[r.seat] + r.rank,
           (extract(epoch FROM statement_timestamp()) * 1000)::bigint, r.key, r.value, r.headers
      FROM unnest(p_seats, p_ranks, p_keys, p_values, p_headers) AS r (seat, rank, key, value, headers);
    FOR i IN 1..cardinality(p_channels) LOOP
        PERFORM pg_notify(p_channels[i], p_payloads[i]);
    END LOOP;
END
$$;

CREATE FUNCTION rotate_segments() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    v_open segments;
    v_next smallint;
    v_span interval;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('orderflow.log.segments', 0)) THEN
        RETURN false;
    END IF;
    SELECT * INTO STRICT v_open FROM segments WHERE opened_at IS NOT NULL AND closed_at IS NULL;
    SELECT max(retention_ms) / 7 * interval '1 millisecond' INTO v_span FROM topics;
    v_next := (v_open.segment + 1) % 8;
    IF v_span IS NULL OR clock_timestamp() < v_open.opened_at + v_span
       OR EXISTS (SELECT FROM segments WHERE segment = v_next AND opened_at IS NOT NULL) THEN
        RETURN false;
    END IF;
    LOCK TABLE records IN SHARE ROW EXCLUSIVE MODE;
    UPDATE segments SET closed_at = clock_timestamp() WHERE segment = v_open.segment;
    UPDATE segments SET opened_at = clock_timestamp() WHERE segment = v_next;
    RETURN true;
END
$$;

CREATE FUNCTION truncate_expired() RETURNS integer LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    v_keep    interval;
    v_segment smallint;
    v_dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('orderflow.log.segments', 0)) THEN
        RETURN 0;
    END IF;
    SELECT max(retention_ms) * interval '1 millisecond' INTO v_keep FROM topics;
    FOR v_segment IN SELECT segment FROM segments WHERE closed_at < clock_timestamp() - v_keep LOOP
        UPDATE partitions p SET first_offset = greatest(p.first_offset, s.last + 1)
          FROM (SELECT partition_id, max("offset") AS last FROM records
                 WHERE segment = v_segment GROUP BY partition_id ORDER BY partition_id) s
         WHERE p.id = s.partition_id;
        EXECUTE format('TRUNCATE records_%s', v_segment);
        UPDATE segments SET opened_at = NULL, closed_at = NULL WHERE segment = v_segment;
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
END
$$;

CREATE FUNCTION rebalance_group(p_group integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_generation bigint;
BEGIN
    UPDATE groups SET generation = generation + 1 WHERE id = p_group RETURNING generation INTO v_generation;
    -- Ranges over the members in order of joining, topic by topic.
    WITH seats AS (
        SELECT m.member, s.topic,
               row_number() OVER w - 1 AS seat,
               count(*) OVER (PARTITION BY s.topic) AS seats
          FROM group_members m CROSS JOIN LATERAL unnest(m.topics) AS s (topic)
         WHERE m.group_id = p_group
        WINDOW w AS (PARTITION BY s.topic ORDER BY m.joined_at, m.member)
    ), dealt AS (
        SELECT o.partition_id, s.member
          FROM group_offsets o
          JOIN partitions p ON p.id = o.partition_id
          JOIN topics t ON t.id = p.topic_id
          LEFT JOIN seats s ON s.topic = t.name AND s.seat = p.number * s.seats / t.partitions
         WHERE o.group_id = p_group
    )
    UPDATE group_offsets o SET owner = d.member, owner_generation = v_generation
      FROM dealt d
     WHERE o.group_id = p_group AND o.partition_id = d.partition_id AND o.owner IS DISTINCT FROM d.member;
    PERFORM pg_notify('g' || p_group, v_generation::text);
END
$$;

CREATE FUNCTION dead_members(p_group integer) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT m.member
      FROM group_members m
     WHERE m.group_id = p_group
       AND (m.expires_at < clock_timestamp()
            OR NOT EXISTS (SELECT FROM pg_stat_get_activity(m.backend_pid) a
                            WHERE a.backend_start = m.backend_start))
$$;
COMMENT ON FUNCTION dead_members IS 'Whose lease has run out, and whose connection is gone.';

CREATE FUNCTION join_group(p_group text, p_member uuid, p_topics text[], p_session_ms integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_group integer;
BEGIN
    INSERT INTO groups (name) VALUES (p_group) ON CONFLICT (name) DO NOTHING;
    SELECT id INTO STRICT v_group FROM groups WHERE name = p_group FOR UPDATE;
    DELETE FROM group_members WHERE member IN (SELECT dead_members(v_group));
    INSERT INTO group_members (member, group_id, topics, joined_at, expires_at, backend_pid, backend_start)
    SELECT p_member, v_group, p_topics, clock_timestamp(),
           clock_timestamp() + p_session_ms * interval '1 millisecond', a.pid, a.backend_start
      FROM pg_stat_get_activity(pg_backend_pid()) a;
    INSERT INTO group_offsets (group_id, partition_id)
    SELECT v_group, p.id
      FROM partitions p JOIN topics t ON t.id = p.topic_id
     WHERE t.name = ANY (p_topics)
    ON CONFLICT (group_id, partition_id) DO NOTHING;
    PERFORM rebalance_group(v_group);
    RETURN v_group;
END
$$;

CREATE FUNCTION leave_group(p_group integer, p_member uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM groups WHERE id = p_group FOR UPDATE;
    DELETE FROM group_members WHERE member = p_member AND group_id = p_group;
    IF FOUND THEN
        PERFORM rebalance_group(p_group);
    END IF;
END
$$;

CREATE FUNCTION heartbeat(p_group integer, p_member uuid, p_session_ms integer)
RETURNS bigint LANGUAGE plpgsql AS $$
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
       SET expires_at = clock_timestamp() + p_session_ms * interval '1 millisecond',
           backend_pid = a.pid, backend_start = a.backend_start
      FROM pg_stat_get_activity(pg_backend_pid()) a
     WHERE m.member = p_member;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT generation FROM groups WHERE id = p_group);
END
$$;
COMMENT ON FUNCTION heartbeat IS
    'Renews the lease and puts out members that are dead. NULL: this member itself was put out; join anew.';
