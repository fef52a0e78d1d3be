-- name: configure
-- Settings of this session, in the order given; returns the server process that has it, and whether it may only read.
SELECT pg_backend_pid(), current_setting('transaction_read_only') = 'on', count(set_config(name, value, false))
FROM unnest($1::text[], $2::text[]) AS setting (name, value);

-- name: backend
-- The server process that answers.
SELECT pg_backend_pid();
