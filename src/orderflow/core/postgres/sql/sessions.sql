-- name: configure
-- Settings of this session, in the order given; returns the server process that has it, and whether it may only read.
SELECT pg_backend_pid(), current_setting('transaction_read_only') = 'on', count(set_config(name, value, false))
FROM unnest($1::text[], $2::text[]) AS setting (name, value);

-- name: lock_wait
-- Which session holds the lock that the oldest of our statements waits for, if that waits for more than $1 seconds.
SELECT holder.pid, holder.application_name, holder.usename AS role, waiting.for_s
FROM (
    SELECT pid, extract(epoch FROM clock_timestamp() - query_start)::float8 AS for_s FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query_start < clock_timestamp() - $1::float8 * interval '1 second'
    ORDER BY query_start LIMIT 1
) AS waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity AS holder ON holder.pid = blocking.pid
LIMIT 1;

-- name: clock
-- The time here, in ms since the epoch.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- name: backend
-- The server process that answers.
SELECT pg_backend_pid();
