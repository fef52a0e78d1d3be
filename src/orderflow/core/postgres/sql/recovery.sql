-- name: dead_letters
-- Dead events in order of position, a page at a time, through the index of the dead. Their records are not read.
SELECT
    position, consumer, key, event_id, event_type, state, attempts, replays, behind,
    original_id IS NOT NULL AS edited, coalesce(failure_kind, '') AS kind, coalesce(error, '') AS error,
    coalesce(message, '') AS message, coalesce(fingerprint, '') AS fingerprint, topic, partition, "offset",
    parked_at, first_failed_at, last_failed_at, next_attempt_at
FROM letters
WHERE
    state = 3 AND position > $1
    AND ($3::text IS NULL OR consumer = $3) AND ($4::text IS NULL OR topic = $4)
    AND ($5::text IS NULL OR event_type = $5) AND ($6::text IS NULL OR fingerprint = $6)
    AND ($7::text IS NULL OR key = $7)
    AND ($8::bigint IS NULL OR extract(epoch FROM statement_timestamp() - parked_at) * 1000 >= $8)
    AND ($9::uuid[] IS NULL OR position = ANY (ARRAY(
        SELECT unnest($10::bigint[])
        UNION ALL SELECT position FROM parked_events WHERE event_id = ANY ($9)
        UNION ALL SELECT position FROM edited_events WHERE event_id = ANY ($9)
    )))
ORDER BY position
LIMIT $2;

-- name: letters
-- Parked events in any state (or in that one), in order of position, a page at a time.
SELECT
    position, consumer, key, event_id, event_type, state, attempts, replays, behind,
    original_id IS NOT NULL AS edited, coalesce(failure_kind, '') AS kind, coalesce(error, '') AS error,
    coalesce(message, '') AS message, coalesce(fingerprint, '') AS fingerprint, topic, partition, "offset",
    parked_at, first_failed_at, last_failed_at, next_attempt_at
FROM letters
WHERE
    ($11::smallint IS NULL OR state = $11) AND position > $1
    AND ($3::text IS NULL OR consumer = $3) AND ($4::text IS NULL OR topic = $4)
    AND ($5::text IS NULL OR event_type = $5) AND ($6::text IS NULL OR fingerprint = $6)
    AND ($7::text IS NULL OR key = $7)
    AND ($8::bigint IS NULL OR extract(epoch FROM statement_timestamp() - parked_at) * 1000 >= $8)
    AND ($9::uuid[] IS NULL OR position = ANY (ARRAY(
        SELECT unnest($10::bigint[])
        UNION ALL SELECT position FROM parked_events WHERE event_id = ANY ($9)
        UNION ALL SELECT position FROM edited_events WHERE event_id = ANY ($9)
    )))
ORDER BY position
LIMIT $2;

-- name: letter_by_position
-- One parked or dead event by its position.
SELECT * FROM letters WHERE position = $1;

-- name: letter_by_event
-- The same by its event id, also the original one; the oldest, if several consumers of this database hold it.
SELECT * FROM letters
WHERE position = ANY (ARRAY(
    SELECT position FROM parked_events WHERE event_id = $1
    UNION ALL SELECT position FROM edited_events WHERE event_id = $1
))
ORDER BY position
LIMIT 1;

-- name: events_ending
-- Ids that end with these digits, of events that wait or have ever failed.
SELECT event_id FROM (
    SELECT event_id FROM parked_events
    UNION SELECT event_id FROM edited_events
    UNION SELECT event_id FROM parked_history
) AS known
WHERE right(replace(event_id::text, '-', ''), length($1::text)) = $1
ORDER BY event_id
LIMIT $2;

-- name: history_by_position
-- What has happened to the event at a position, oldest first.
SELECT at, moment, attempt, error, message, who FROM parked_history WHERE position = $1 ORDER BY number;

-- name: history_by_event
-- The same by an event id that it has or had; the oldest, if several consumers of this database knew it.
SELECT at, moment, attempt, error, message, who FROM parked_history
WHERE position = (SELECT min(position) FROM parked_history WHERE event_id = $1)
ORDER BY number;

-- name: letter_groups
-- Dead events that failed alike, largest group first, with the one that failed last as the example.
SELECT
    dead.fingerprint, dead.count, dead.keys, dead.consumers, dead.event_types, dead.first_seen, dead.last_seen,
    dead.example, example.error, example.message, coalesce(notes.note, '') AS note
FROM (
    SELECT
        fingerprint, count(*) AS count, count(DISTINCT key) AS keys, array_agg(DISTINCT consumer) AS consumers,
        array_agg(DISTINCT event_type) AS event_types, min(first_failed_at) AS first_seen,
        max(last_failed_at) AS last_seen,
        (array_agg(position ORDER BY last_failed_at DESC, position DESC))[1] AS example
    FROM parked_events
    WHERE state = 3
        AND ($1::text IS NULL OR consumer = $1) AND ($2::text IS NULL OR topic = $2)
        AND ($3::text IS NULL OR event_type = $3) AND ($4::text IS NULL OR fingerprint = $4)
        AND ($5::text IS NULL OR key = $5)
        AND ($6::bigint IS NULL OR extract(epoch FROM statement_timestamp() - parked_at) * 1000 >= $6)
        AND ($7::uuid[] IS NULL OR position = ANY (ARRAY(
            SELECT unnest($8::bigint[])
            UNION ALL SELECT position FROM parked_events WHERE event_id = ANY ($7)
            UNION ALL SELECT position FROM edited_events WHERE event_id = ANY ($7)
        )))
    GROUP BY fingerprint
) AS dead
JOIN parked_events AS example ON example.position = dead.example
LEFT JOIN letter_notes AS notes ON notes.fingerprint = dead.fingerprint
ORDER BY dead.count DESC, dead.last_seen DESC, dead.fingerprint;

-- name: stuck_summary
-- For each consumer: how many keys are stuck, and by what.
SELECT
    consumer, count(DISTINCT key) AS keys, count(*) FILTER (WHERE state = 2 AND attempts > 0) AS retrying,
    count(*) FILTER (WHERE state = 3) AS dead, count(*) FILTER (WHERE state = 2 AND attempts = 0) AS held,
    min(parked_at) AS oldest
FROM parked_events
GROUP BY consumer
ORDER BY consumer;

-- name: annotate
-- Set the note of a group, or take it away if it is empty, with a row of the operators' log.
WITH noted AS (
    INSERT INTO letter_notes (fingerprint, note, who) SELECT $1, $2, $3 WHERE $2::text <> ''
    ON CONFLICT (fingerprint) DO UPDATE SET note = excluded.note, who = excluded.who, at = excluded.at
), removed AS (
    DELETE FROM letter_notes WHERE fingerprint = $1 AND $2::text = ''
)
INSERT INTO operator_actions (who, action, target, reason, result) VALUES ($3, 'note', $1, $4, $5);

-- name: trail_received
-- What came in of a key, at every consumer.
SELECT consumer, identity, event_id, state, at FROM processed_events WHERE key = $1 ORDER BY at, identity;

-- name: trail_unsent
-- What is written of a key and not acknowledged by the log. Few rows wait at any time: they are looked through.
SELECT outbox.topic, outbox.event_id, outbox.created_at AS since
FROM outbox_pending AS waiting
JOIN outbox ON outbox.id = waiting.id AND outbox.segment = waiting.segment
WHERE outbox.key = convert_to($1, 'UTF8')
ORDER BY waiting.id;

-- name: outbox_of_key
-- All that the outbox has of a key, sent or not.
SELECT topic, event_id, created_at AS at, value FROM outbox WHERE key = convert_to($1, 'UTF8') ORDER BY id;

-- name: trail_asked
-- What the outside world was asked for a key and has not answered.
SELECT key, kind, attempts, created_at AS since, due_at FROM intents WHERE message_key = $1 ORDER BY created_at, key;

-- name: note_expired
-- Keep which records a consumer has lost; returns what is new, or more than was known.
INSERT INTO expired_records AS known (consumer, topic, partition, first_lost, next_kept)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[])
ON CONFLICT (consumer, topic, partition, first_lost) DO UPDATE
SET next_kept = excluded.next_kept, noticed_at = now(), acknowledged_at = NULL
WHERE known.next_kept < excluded.next_kept
RETURNING consumer, topic, partition, first_lost, next_kept, noticed_at;

-- name: expired
-- What consumers have lost, and nobody has acknowledged.
SELECT consumer, topic, partition, first_lost, next_kept, noticed_at FROM expired_records
WHERE acknowledged_at IS NULL
ORDER BY consumer, topic, partition, first_lost;

-- name: acknowledge_expired
-- An operator knows of what a consumer has lost, with a row of the operators' log; returns how many records.
WITH known AS (
    UPDATE expired_records SET acknowledged_at = now()
    WHERE consumer = $1 AND acknowledged_at IS NULL
    RETURNING next_kept - first_lost AS lost
), told AS (
    INSERT INTO operator_actions (who, action, target, reason, result)
    SELECT $2, 'acknowledge', 'expired records of ' || $1, $3, sum(lost) || ' records lost' FROM known
    HAVING count(*) > 0
)
SELECT coalesce(sum(lost), 0)::bigint FROM known;

-- name: overrule
-- Say what failures of a type are taken for, in the place of what was said before, with a row of the operators' log.
WITH logged AS (
    INSERT INTO operator_actions (who, action, target, reason, result)
    VALUES ($4, 'overrule', $1::text || ' ' || $2::text, $5, $6)
)
INSERT INTO outage_overrules AS kept (consumer, event_type, verdict, who, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (consumer, event_type) DO UPDATE SET
    verdict = excluded.verdict, who = excluded.who, reason = excluded.reason, made_at = excluded.made_at
RETURNING kept.*;

-- name: overrules
-- What was said of outages and still holds.
SELECT consumer, event_type, verdict, who, reason, made_at FROM outage_overrules
WHERE made_at > statement_timestamp() - $1::bigint * interval '1 millisecond'
ORDER BY consumer, event_type;

-- name: actions
-- The operators' log, latest first.
SELECT number, at, who, action, target, reason, result, encode(hash, 'hex') AS hash FROM operator_actions
WHERE $2::bigint IS NULL OR number < $2
ORDER BY number DESC
LIMIT $1;

-- name: expire_proposals
-- Proposals whose time is over can be approved no more.
UPDATE proposals SET state = 'expired' WHERE state = 'open' AND until <= now();

-- name: propose
-- A new proposal, with a row of the operators' log, unless the same is open already.
WITH made AS (
    INSERT INTO proposals (id, digest, operation, request, who, reason, until)
    VALUES ($1, $2, $3, $4, $5, $6, now() + $7::bigint * interval '1 ms')
    ON CONFLICT (digest) WHERE state = 'open' DO NOTHING
    RETURNING id, operation, reason
)
INSERT INTO operator_actions (who, action, target, reason, result)
SELECT $8, 'propose', 'proposal ' || id, reason, operation FROM made;

-- name: proposal
-- A proposal by its id.
SELECT id, operation, request, who, reason, made_at, until, state, coalesce(decided_by, '') AS decided_by
FROM proposals WHERE id = $1;

-- name: open_proposal
-- The open proposal of that digest.
SELECT id, operation, request, who, reason, made_at, until, state, coalesce(decided_by, '') AS decided_by
FROM proposals WHERE digest = $1 AND state = 'open' AND until > now();

-- name: proposals
-- Proposals, latest first; with $2 only those that can be approved.
SELECT id, operation, request, who, reason, made_at, until,
    CASE WHEN state = 'open' AND until <= now() THEN 'expired' ELSE state END AS state,
    coalesce(decided_by, '') AS decided_by
FROM proposals WHERE NOT $2::boolean OR (state = 'open' AND until > now())
ORDER BY id DESC LIMIT $1;

-- name: withdraw_proposal
-- Nobody can approve it any more, with a row of the operators' log; returns its id.
WITH gone AS (
    UPDATE proposals SET state = 'withdrawn', decided_by = $2, decided_at = now()
    WHERE id = $1 AND state = 'open' AND until > now()
    RETURNING id, operation
)
INSERT INTO operator_actions (who, action, target, reason, result)
SELECT $4, 'withdraw', 'proposal ' || id, $3, operation FROM gone
RETURNING target;
