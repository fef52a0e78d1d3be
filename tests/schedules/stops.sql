-- A statement that changes a row of such a table stops there, with what it has locked, until its turn comes again:
-- the scheduler holds the advisory lock of each session that takes turns. Whoever takes none passes at once.
CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock(1868981655, pg_backend_pid());
    PERFORM pg_advisory_unlock(1868981655, pg_backend_pid());
    RETURN coalesce(NEW, OLD);
END
$$;
