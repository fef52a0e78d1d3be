-- name: ping
-- Whether the database answers.
SELECT 1;

-- name: give_up
-- Let go of all locks that the session holds, and let it be idle for as long as it likes again.
SELECT pg_advisory_unlock_all(), set_config('idle_session_timeout', '0', false);

-- name: known
-- What the inbox knows of messages. OFFSET 0 keeps each look-up one of its own, by the whole key. Without it a plan
-- made while the tables were small reads all rows of the consumer for each batch, and stays when they are large.
SELECT message.key, message.identity, inbox.state
FROM unnest($2::text[], $3::text[]) AS message (key, identity)
CROSS JOIN LATERAL (
    SELECT state FROM processed_events AS inbox
    WHERE inbox.key = message.key AND inbox.consumer = $1::text AND inbox.identity = message.identity
    OFFSET 0
) AS inbox;

-- name: streams
-- How many events of each key were published so far, by source.
SELECT batch.key, stream.source, stream.emitted
FROM unnest($1::text[]) AS batch (key)
CROSS JOIN LATERAL (
    SELECT source, emitted FROM streams WHERE streams.key = batch.key OFFSET 0
) AS stream;

-- name: depths
-- Which keys have parked events, and how many, counted no further than the limit. No key is looked for while the consumer
-- has nothing parked at all.
SELECT closed.key, held.depth
FROM unnest($2::text[]) AS batch (key)
CROSS JOIN LATERAL (
    SELECT key FROM parked_events WHERE parked_events.consumer = $1::text AND parked_events.key = batch.key LIMIT 1
) AS closed
CROSS JOIN LATERAL (
    SELECT count(*) AS depth FROM (
        SELECT FROM parked_events
        WHERE parked_events.consumer = $1::text AND parked_events.key = closed.key
        LIMIT $3::integer
    ) AS held
) AS held
WHERE EXISTS (SELECT FROM parked_events WHERE parked_events.consumer = $1::text);

-- name: add_inbox
-- New inbox rows; one that is there already is an error.
INSERT INTO processed_events (key, consumer, identity, event_id, state)
SELECT key, $1, identity, event_id, state
FROM unnest($2::text[], $3::text[], $4::uuid[], $5::smallint[]) AS entry (key, identity, event_id, state);

-- name: replace_inbox
-- New states of inbox rows that are there.
UPDATE processed_events AS inbox
SET event_id = entry.event_id, state = entry.state, at = now()
FROM unnest($2::text[], $3::text[], $4::uuid[], $5::smallint[]) AS entry (key, identity, event_id, state)
WHERE inbox.key = ANY ($2::text[]) AND inbox.key = entry.key AND inbox.consumer = $1
    AND inbox.identity = entry.identity;

-- name: begin_streams
-- New stream counts. One that is there already is an error: looking for it first (ON CONFLICT) costs as much again as
-- the row.
INSERT INTO streams (key, source, emitted)
SELECT key, source, emitted FROM unnest($1::text[], $2::text[], $3::bigint[]) AS stream (key, source, emitted);

-- name: continue_streams
-- Stream counts that go forward.
UPDATE streams SET emitted = stream.emitted
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS stream (key, source, emitted)
WHERE streams.key = stream.key AND streams.source = stream.source AND streams.emitted < stream.emitted;

-- name: add_outbox
-- Outbox rows with their pending marks; returns their ids, given in the order of the arrays, and their times.
WITH published AS (
    INSERT INTO outbox (segment, slot, topic, key, value, headers, event_id)
    SELECT (SELECT segment FROM outbox_rotation), slot, topic, key, value, headers, event_id
    FROM unnest($1::smallint[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[], $6::uuid[])
        AS record (slot, topic, key, value, headers, event_id)
    RETURNING id, segment, slot, created_at
), pending AS (
    INSERT INTO outbox_pending (id, segment, slot) SELECT id, segment, slot FROM published
)
SELECT array_agg(id ORDER BY id), array_agg((extract(epoch FROM created_at) * 1000)::bigint ORDER BY id)
FROM published;

-- name: park
-- New parked events, in order, and the history of those that failed.
WITH parked AS (
    INSERT INTO parked_events (
        key, consumer, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
        record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint,
        first_failed_at, last_failed_at, next_attempt_at
    )
    SELECT
        key, $1, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
        record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint,
        CASE WHEN attempts > 0 THEN now() END, CASE WHEN attempts > 0 THEN now() END,
        clock_timestamp() + delay_ms * interval '1 ms'
    FROM unnest(
        $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::integer[], $8::bigint[], $9::bytea[],
        $10::bytea[], $11::bytea[], $12::bigint[], $13::text[], $14::smallint[], $15::integer[], $16::text[],
        $17::text[], $18::text[], $19::text[], $20::bigint[]
    ) AS event (
        key, identity, event_id, event_type, topic, partition, "offset", record_key, record_value,
        record_headers, record_timestamp, intent, state, attempts, failure_kind, error, message, fingerprint, delay_ms
    )
    RETURNING position, event_id, state, attempts, error, message
)
INSERT INTO parked_history (position, event_id, moment, attempt, error, message)
SELECT position, event_id, CASE WHEN state = 3 THEN 'dead' ELSE 'failed' END, attempts, error, message
FROM parked
WHERE attempts > 0;

-- name: repark
-- Another failed attempt of parked events, with its history; returns how many there were.
WITH failed AS (
    UPDATE parked_events AS parked
    SET state = event.state, attempts = event.attempts, failure_kind = event.failure_kind, error = event.error,
        message = event.message, fingerprint = event.fingerprint,
        first_failed_at = CASE WHEN event.attempts > 0 THEN coalesce(parked.first_failed_at, now()) END,
        last_failed_at = CASE WHEN event.attempts > 0 THEN now() END,
        next_attempt_at = clock_timestamp() + event.delay_ms * interval '1 ms'
    FROM unnest(
        $1::bigint[], $2::smallint[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[]
    ) AS event (position, state, attempts, failure_kind, error, message, fingerprint, delay_ms)
    WHERE parked.position = ANY ($1::bigint[]) AND parked.position = event.position
    RETURNING parked.position, parked.event_id, parked.state, parked.attempts, parked.error, parked.message
), told AS (
    INSERT INTO parked_history (position, event_id, moment, attempt, error, message)
    SELECT position, event_id, CASE WHEN state = 3 THEN 'dead' ELSE 'failed' END, attempts, error, message
    FROM failed
    WHERE attempts > 0
)
SELECT count(*) FROM failed;

-- name: edit
-- Other events in the place of parked ones; what came in first is kept. Returns how many there were.
WITH edit AS (
    SELECT * FROM unnest(
        $1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[]
    ) AS edit (position, event_id, identity, event_type, record_key, record_value, record_headers, who)
), original AS (
    INSERT INTO edited_events (
        position, consumer, key, identity, event_id, event_type, topic, partition, "offset", record_key,
        record_value, record_headers, record_timestamp
    )
    SELECT
        position, consumer, key, identity, event_id, event_type, topic, partition, "offset", record_key,
        record_value, record_headers, record_timestamp
    FROM parked_events
    WHERE position = ANY ($1::bigint[])
    ON CONFLICT (position) DO NOTHING
), edited AS (
    UPDATE parked_events AS parked
    SET event_id = edit.event_id, identity = edit.identity, event_type = edit.event_type,
        record_key = edit.record_key, record_value = edit.record_value, record_headers = edit.record_headers
    FROM edit
    WHERE parked.position = ANY ($1::bigint[]) AND parked.position = edit.position
    RETURNING parked.position, parked.event_id, parked.attempts, edit.who
), told AS (
    INSERT INTO parked_history (position, event_id, moment, attempt, who)
    SELECT position, event_id, 'edited', attempts, who FROM edited
)
SELECT count(*) FROM edited;

-- name: log_actions
-- Rows of the operators' log, in order.
INSERT INTO operator_actions (who, action, target, reason, result)
SELECT who, action, target, reason, result
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
    AS entry (who, action, target, reason, result, place)
ORDER BY place;

-- name: close_proposals
-- Proposals are carried out, by another than has made them; returns how many there were.
WITH done AS (
    UPDATE proposals SET state = 'done', decided_by = approved.who, decided_at = now()
    FROM unnest($1::uuid[], $2::text[]) AS approved (id, who)
    WHERE proposals.id = approved.id AND state = 'open' AND until > now() AND proposals.who <> approved.who
    RETURNING 1
)
SELECT count(*) FROM done;

-- name: release
-- Parked events that wait no longer, with their end in the history: $2 has discarded them, because of $3, or, with no
-- such person, they were handled. What was only held has no history. Returns how many there were.
WITH gone AS (
    DELETE FROM parked_events WHERE position = ANY ($1::bigint[]) RETURNING position, event_id, attempts
), told AS (
    INSERT INTO parked_history (position, event_id, moment, attempt, message, who)
    SELECT
        position, event_id, CASE WHEN $2::text IS NULL THEN 'handled' ELSE 'discarded' END, attempts,
        coalesce($3::text, ''), coalesce($2, '')
    FROM gone
    WHERE attempts > 0 OR $2 IS NOT NULL
)
SELECT count(*) FROM gone;

-- name: waiting
-- The first parked events of each key: with $4 only of those whose head is due and not dead. What is due later than the
-- longest wait, $5 ms, was dated while the clock was ahead: here and below it counts as due.
SELECT
    parked.key, parked.identity, parked.event_id, parked.event_type, parked.topic, parked.partition, parked."offset",
    parked.record_key, parked.record_value, parked.record_headers, parked.record_timestamp, parked.intent,
    parked.state, parked.attempts, parked.failure_kind, parked.error, parked.message, parked.fingerprint,
    parked.position, parked.first_failed_at, parked.replays
FROM unnest($2::text[]) AS wanted (key)
CROSS JOIN LATERAL (
    SELECT state, next_attempt_at FROM parked_events
    WHERE consumer = $1::text AND key = wanted.key ORDER BY position LIMIT 1
) AS head
CROSS JOIN LATERAL (
    SELECT * FROM parked_events WHERE consumer = $1::text AND key = wanted.key ORDER BY position LIMIT $3::integer
) AS parked
WHERE NOT $4::boolean OR (head.state = 2 AND (
    head.next_attempt_at <= clock_timestamp()
    OR head.next_attempt_at > clock_timestamp() + $5::bigint * interval '1 ms'
))
ORDER BY parked.position;

-- name: parked_keys
-- How many keys have parked events, counted by hopping from key to key along the index, no further than the limit.
WITH RECURSIVE keys AS (
    (
        SELECT key FROM parked_events WHERE consumer = $1 ORDER BY key LIMIT 1
    )
    UNION ALL
    SELECT next.key
    FROM keys
    CROSS JOIN LATERAL (
        SELECT key FROM parked_events WHERE consumer = $1 AND key > keys.key ORDER BY key LIMIT 1
    ) AS next
)
SELECT count(*) FROM (SELECT FROM keys LIMIT $2) AS counted;

-- name: due_keys
-- Keys whose head is due and of none of the types $3, found by hopping from head to head along the index instead of
-- reading all that is held.
WITH RECURSIVE heads AS (
    (
        SELECT key, state, next_attempt_at, event_type FROM parked_events
        WHERE consumer = $1 ORDER BY key, position LIMIT 1
    )
    UNION ALL
    SELECT next.key, next.state, next.next_attempt_at, next.event_type
    FROM heads
    CROSS JOIN LATERAL (
        SELECT key, state, next_attempt_at, event_type FROM parked_events
        WHERE consumer = $1 AND key > heads.key ORDER BY key, position LIMIT 1
    ) AS next
)
SELECT key FROM heads
WHERE state = 2 AND event_type <> ALL ($3::text[]) AND (
    next_attempt_at <= statement_timestamp() OR next_attempt_at > statement_timestamp() + $4 * interval '1 ms'
)
ORDER BY next_attempt_at, key
LIMIT $2;

-- name: open_intents
-- New intents, leased to the process that writes them.
INSERT INTO intents (key, kind, request, message_key, cause, traceparent, attempts, due_at)
SELECT key, kind, request::jsonb, message_key, cause, traceparent, attempts,
    clock_timestamp() + due_ms * interval '1 ms'
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::integer[], $8::bigint[]
) AS intent (key, kind, request, message_key, cause, traceparent, attempts, due_ms);

-- name: postpone_intents
-- Intents to be asked again after their delay.
INSERT INTO intents (key, kind, request, message_key, cause, traceparent, attempts, due_at)
SELECT key, kind, request::jsonb, message_key, cause, traceparent, attempts,
    clock_timestamp() + due_ms * interval '1 ms'
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::integer[], $8::bigint[]
) AS intent (key, kind, request, message_key, cause, traceparent, attempts, due_ms)
ON CONFLICT (key) DO UPDATE SET
    kind = excluded.kind, request = excluded.request, message_key = excluded.message_key, cause = excluded.cause,
    traceparent = excluded.traceparent, attempts = excluded.attempts, due_at = excluded.due_at;

-- name: close_intents
-- Intents that were answered.
DELETE FROM intents WHERE key = ANY ($1::text[]);

-- name: claim_intents
-- Lease intents that are due, in two ranges of their index; one that a transaction is just changing is passed over.
UPDATE intents
SET due_at = statement_timestamp() + $2 * interval '1 ms'
WHERE key = ANY ((ARRAY(
    SELECT key FROM intents WHERE due_at <= statement_timestamp() ORDER BY due_at, key LIMIT $1
    FOR UPDATE SKIP LOCKED
) || ARRAY(
    SELECT key FROM intents WHERE due_at > statement_timestamp() + $3 * interval '1 ms' ORDER BY due_at, key LIMIT $1
    FOR UPDATE SKIP LOCKED
))[:$1])
RETURNING key, kind, request::text, message_key, cause, traceparent, attempts;

-- name: outbox_standing
-- Who is alive among the relays of this database and who owns which slot, from the locks themselves; and for how long
-- the server has been waiting for that relay's process (what may not be seen of a session counts as no time).
SELECT classid::bigint AS class, objid::bigint AS number, pid, pid = pg_backend_pid() AS mine, coalesce((
    SELECT extract(epoch FROM clock_timestamp() - state_change)::double precision
    FROM pg_stat_get_activity(lock.pid) WHERE wait_event_type = 'Client'
), 0) AS silent_s
FROM pg_locks AS lock
WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = ANY ($1::oid[])
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: outbox_fence
-- End the sessions of relays for which the server has been waiting longer than $2 seconds.
SELECT pg_terminate_backend(pid, 2000)
FROM (
    SELECT DISTINCT pid FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = ANY ($1::oid[])
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS relay
WHERE EXISTS (
    SELECT FROM pg_stat_get_activity(relay.pid)
    WHERE wait_event_type = 'Client' AND state_change < clock_timestamp() - $2 * interval '1 s'
        AND pg_has_role(usesysid, 'USAGE')
);

-- name: outbox_be_present
-- Be counted among the living relays for as long as this connection lives.
SELECT pg_advisory_lock($1::integer, pg_backend_pid());

-- name: outbox_take_slots
-- Take slots that are free; returns those that were.
SELECT slot FROM unnest($2::integer[]) AS slot WHERE pg_try_advisory_lock($1::integer, slot);

-- name: outbox_give_up_slots
-- Give up slots; returns them.
SELECT slot FROM unnest($2::integer[]) AS slot WHERE pg_advisory_unlock($1::integer, slot);

-- name: outbox_leave
-- Give up all slots, be counted among the living no more, and tell the others.
SELECT pg_advisory_unlock_all(), pg_notify($1, $2);

-- name: outbox_unsent
-- The ids of the oldest unsent rows of some slots, without some that are sent and not marked.
SELECT id FROM outbox_pending
WHERE slot = ANY ($1::smallint[]) AND id <> ALL ($3::bigint[])
ORDER BY id LIMIT $2;

-- name: outbox_mark_and_look
-- Mark rows that the log has acknowledged, and the ids of the oldest of some slots that are unsent then.
WITH sent AS (
    DELETE FROM outbox_pending WHERE id = ANY ($3::text::bigint[])
)
SELECT id FROM outbox_pending
WHERE slot = ANY ($1::smallint[]) AND id <> ALL ($3::text::bigint[])
ORDER BY id LIMIT $2;

-- name: outbox_read
-- Unsent rows.
SELECT record.id, record.slot, record.topic, record.key, record.value, record.headers, record.event_id,
    (extract(epoch FROM record.created_at) * 1000)::bigint AS created_at
FROM outbox_pending AS pending
JOIN outbox AS record ON record.segment = pending.segment AND record.id = pending.id
WHERE pending.id = ANY ($1::bigint[]);

-- name: outbox_mark_sent
-- Rows that the log has acknowledged.
DELETE FROM outbox_pending WHERE id = ANY ($1::text::bigint[]);

-- name: outbox_mark_free
-- The same, without those that another session holds.
DELETE FROM outbox_pending
WHERE id = ANY (ARRAY(SELECT id FROM outbox_pending WHERE id = ANY ($1::bigint[]) FOR UPDATE SKIP LOCKED));

-- name: outbox_unmarked
-- Those that are still there.
SELECT id FROM outbox_pending WHERE id = ANY ($1::bigint[]);

-- name: outbox_backlog
-- How many rows are unsent, and the age of the oldest in ms.
SELECT count(*) AS unsent,
    coalesce((
        SELECT greatest(0, (extract(epoch FROM clock_timestamp() - record.created_at) * 1000)::bigint)
        FROM (SELECT id, segment FROM outbox_pending ORDER BY id LIMIT 1) AS oldest
        JOIN outbox AS record ON record.segment = oldest.segment AND record.id = oldest.id
    ), 0) AS oldest_ms
FROM outbox_pending;

-- name: outbox_span
-- The ids of the oldest and of the newest row that are kept (1 and 0 when there is none).
SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM outbox;

-- name: outbox_published
-- What is kept and sent, between two ids, by topic: how many, and the times of the oldest and the newest.
SELECT record.topic, count(*), (extract(epoch FROM min(record.created_at)) * 1000)::bigint,
    (extract(epoch FROM max(record.created_at)) * 1000)::bigint
FROM outbox AS record
WHERE record.id BETWEEN $1 AND $2 AND ($3::text IS NULL OR record.topic = $3)
    AND ($4::bytea IS NULL OR record.key = $4)
    AND ($5::bigint IS NULL OR (extract(epoch FROM record.created_at) * 1000)::bigint >= $5)
    AND ($6::bigint IS NULL OR (extract(epoch FROM record.created_at) * 1000)::bigint < $6)
    AND NOT EXISTS (SELECT FROM outbox_pending AS pending WHERE pending.id = record.id)
GROUP BY record.topic;

-- name: outbox_republish
-- Make what is kept and sent, between two ids, unsent again. A segment that is just being emptied is waited for.
WITH again AS (
    INSERT INTO outbox_pending (id, segment, slot)
    SELECT record.id, record.segment, record.slot
    FROM outbox AS record
    WHERE record.id BETWEEN $1 AND $2 AND ($3::text IS NULL OR record.topic = $3)
        AND ($4::bytea IS NULL OR record.key = $4)
        AND ($5::bigint IS NULL OR (extract(epoch FROM record.created_at) * 1000)::bigint >= $5)
        AND ($6::bigint IS NULL OR (extract(epoch FROM record.created_at) * 1000)::bigint < $6)
        AND NOT EXISTS (SELECT FROM outbox_pending AS pending WHERE pending.id = record.id)
    ORDER BY record.id
    ON CONFLICT (id) DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM again;

-- name: standing
-- What is due now (`due`), and what has been tried again for longer than $2 ms: kind, consumer, place, how many, which
-- of it is the oldest, its age in ms. The outbox rows $3 are sent. The heads of the consumers $1 are found as in `due_keys`.
-- Replays are due that are nobody's, or those of the process $5.
WITH heads AS MATERIALIZED (
    SELECT asked.consumer, head.*
    FROM unnest($1::text[]) AS asked (consumer)
    CROSS JOIN LATERAL (
        WITH RECURSIVE heads AS (
            (
                SELECT position, key, state, attempts, next_attempt_at, first_failed_at, event_type FROM parked_events
                WHERE parked_events.consumer = asked.consumer ORDER BY key, position LIMIT 1
            )
            UNION ALL
            SELECT next.*
            FROM heads
            CROSS JOIN LATERAL (
                SELECT position, key, state, attempts, next_attempt_at, first_failed_at, event_type FROM parked_events
                WHERE parked_events.consumer = asked.consumer AND key > heads.key ORDER BY key, position LIMIT 1
            ) AS next
        )
        SELECT * FROM heads WHERE state = 2
    ) AS head
)
SELECT true AS due, 'outbox' AS kind, '' AS consumer, slot::text AS place, count(*) AS count,
    min(id)::text AS oldest, 0::bigint AS age_ms
FROM outbox_pending WHERE id <> ALL ($3::bigint[]) GROUP BY slot
UNION ALL
SELECT true, 'retry', consumer, event_type, count(*),
    (array_agg(position || '/' || attempts ORDER BY next_attempt_at, key))[1], 0
FROM heads
WHERE next_attempt_at <= statement_timestamp() OR next_attempt_at > statement_timestamp() + $4 * interval '1 ms'
GROUP BY consumer, event_type
UNION ALL
SELECT true, 'intent', '', kind, count(*), (array_agg(key || '/' || attempts ORDER BY due_at, key))[1], 0
FROM intents
WHERE due_at <= statement_timestamp() OR due_at > statement_timestamp() + $4 * interval '1 ms'
GROUP BY kind
UNION ALL
SELECT true, 'replay', '', '', count(*), min(number)::text, 0
FROM replays
WHERE state = 'running' AND (
    claimed_by IS NULL OR claimed_by = $5 OR claimed_until <= statement_timestamp()
    OR claimed_until > statement_timestamp() + $4 * interval '1 ms'
)
HAVING count(*) > 0
UNION ALL
SELECT false, 'retry', consumer, '', count(*), (array_agg(key ORDER BY first_failed_at, position))[1],
    (extract(epoch FROM statement_timestamp() - min(first_failed_at)) * 1000)::bigint
FROM heads WHERE first_failed_at <= statement_timestamp() - $2 * interval '1 ms' GROUP BY consumer
UNION ALL
SELECT false, 'intent', '', kind, count(*), (array_agg(key ORDER BY created_at, key))[1],
    (extract(epoch FROM statement_timestamp() - min(created_at)) * 1000)::bigint
FROM intents WHERE created_at <= statement_timestamp() - $2 * interval '1 ms' GROUP BY kind;

-- name: outbox_notify
-- Wake the relays of other processes. A hint only, so its commit need not reach the disk.
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2);

-- name: outbox_rotate
-- Let new rows go to the next segment, if the current one is old enough and the next one is empty.
UPDATE outbox_rotation SET segment = (segment + 1) % 4, since = clock_timestamp()
WHERE since <= clock_timestamp() - $1 * interval '1 ms' / 3
    AND EXISTS (SELECT FROM outbox WHERE outbox.segment = outbox_rotation.segment)
    AND NOT EXISTS (SELECT FROM outbox WHERE outbox.segment = (outbox_rotation.segment + 1) % 4);

-- name: outbox_purge
-- Empty the segments that are wholly sent and old; returns those that were emptied.
SELECT segment FROM generate_series(0, 3) AS segment WHERE outbox_empty_segment(segment, $1::bigint);
