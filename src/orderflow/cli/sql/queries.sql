-- name: server
-- What matters to us of the server that answers.
SELECT current_setting('server_version_num') AS version,
    extract(epoch FROM clock_timestamp())::double precision * 1000 AS now_ms,
    current_setting('max_connections') AS max_connections,
    current_setting('max_locks_per_transaction') AS max_locks_per_transaction,
    current_setting('max_prepared_transactions') AS prepared,
    current_setting('transaction_read_only') = 'on' AS read_only,
    inet_server_addr()::text AS address, inet_server_port() AS port, pg_postmaster_start_time() AS started;
