-- name: parked
-- Everything that waits, a page at a time; only columns that every release has had.
SELECT
    position, consumer, key, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
    record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint,
    first_failed_at, parked_at, 0 AS replays
FROM parked_events
WHERE position > $1
ORDER BY position
LIMIT $2;
