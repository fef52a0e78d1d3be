-- A group that is new to a partition starts at the first record that is kept: what expired before was never its own.

CREATE OR REPLACE FUNCTION join_group(p_group text, p_member uuid, p_topics text[], p_session_ms integer)
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
    INSERT INTO group_offsets (group_id, partition_id, committed)
    SELECT v_group, p.id, p.first_offset
      FROM partitions p JOIN topics t ON t.id = p.topic_id
     WHERE t.name = ANY (p_topics)
    ON CONFLICT (group_id, partition_id) DO NOTHING;
    PERFORM rebalance_group(v_group);
    RETURN v_group;
END
$$;
