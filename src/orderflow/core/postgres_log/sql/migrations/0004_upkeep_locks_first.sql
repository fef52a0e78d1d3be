-- Emptying segments locks them before the partitions' counters, as an append does: the two cannot wait for each other.

CREATE OR REPLACE FUNCTION truncate_expired() RETURNS integer LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    v_keep    interval;
    v_expired smallint[];
    v_segment smallint;
    v_dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('orderflow.log.segments', 0)) THEN
        RETURN 0;
    END IF;
    SELECT max(retention_ms) * interval '1 millisecond' INTO v_keep FROM topics;
    v_expired := ARRAY(SELECT segment FROM segments WHERE closed_at < clock_timestamp() - v_keep ORDER BY segment);
    FOREACH v_segment IN ARRAY v_expired LOOP
        EXECUTE format('LOCK TABLE ONLY records_%s IN ACCESS EXCLUSIVE MODE', v_segment);
    END LOOP;
    FOREACH v_segment IN ARRAY v_expired LOOP
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
