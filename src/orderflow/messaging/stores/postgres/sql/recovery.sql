-- name: dead_letters
-- Dead events in order of position, a page at a time.
SELECT
    position, consumer, key, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
    record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint,
    parked_at, first_failed_at, last_failed_at, next_attempt_at
FROM parked_events
WHERE state = 3 AND position > $1
ORDER BY position
LIMIT $2;

-- name: parked_by_position
-- One parked or dead event by its position.
SELECT
    position, consumer, key, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
    record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint,
    parked_at, first_failed_at, last_failed_at, next_attempt_at
FROM parked_events
WHERE position = $1;

-- name: parked_by_event
-- A parked or dead event by its event id; the oldest, if several consumers of this database hold it.
SELECT
    position, consumer, key, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
    record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint,
    parked_at, first_failed_at, last_failed_at, next_attempt_at
FROM parked_events
WHERE event_id = $1
ORDER BY position
LIMIT 1;

-- name: parked_summary
-- For each consumer: how many keys are stuck, and by what.
SELECT
    consumer, count(DISTINCT key) AS keys, count(*) FILTER (WHERE state = 2 AND attempts > 0) AS retrying,
    count(*) FILTER (WHERE state = 3) AS dead, count(*) FILTER (WHERE state = 2 AND attempts = 0) AS held,
    min(parked_at) AS oldest
FROM parked_events
GROUP BY consumer
ORDER BY consumer;
