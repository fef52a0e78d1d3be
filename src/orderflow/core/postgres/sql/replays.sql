-- name: begin_replay
-- A new replay of those events that are dead, and how many they are, with a row of the operators' log.
WITH begun AS (
    INSERT INTO replays (plan, who, reason, lag_before) VALUES ($2, $3, $4, $5)
    RETURNING number, plan, who, reason, state, why, step, lag_before, created_at
), events AS (
    INSERT INTO replay_events (replay, position, consumer, key, identity)
    SELECT begun.number, parked.position, parked.consumer, parked.key, parked.identity
    FROM begun CROSS JOIN parked_events AS parked
    WHERE parked.state = 3 AND parked.position = ANY ($1::bigint[])
    RETURNING 1
), told AS (
    INSERT INTO operator_actions (who, action, target, reason, result)
    SELECT $3, 'replay', 'replay ' || number, $4, (SELECT count(*) FROM events) || ' to replay: ' || $6::text || '.'
    FROM begun
)
SELECT begun.*, (SELECT count(*) FROM events) AS waiting, 0 AS under_way,
    0 AS succeeded, 0 AS failed_again, 0 AS discarded, 0 AS gone
FROM begun;

-- name: replays
-- Replays with their progress, latest first (or the one of that number). An outcome seen for the first time is kept.
-- An event that was handled or discarded stays under way while the head of its key was held behind it and is untried.
WITH wanted AS (
    SELECT * FROM replays WHERE $1::bigint IS NULL OR number = $1 ORDER BY number DESC LIMIT $2
), looked AS MATERIALIZED (
    SELECT event.replay, event.position,
        CASE
            WHEN parked.state = 3 THEN 'failed_again'
            WHEN parked.state IS NOT NULL OR (head.state = 2 AND head.attempts = 0) THEN 'under_way'
            WHEN inbox.state = 1 THEN 'succeeded'
            WHEN inbox.state = 4 THEN 'discarded'
            ELSE 'under_way'
        END AS state
    FROM wanted
    JOIN replay_events AS event ON event.replay = wanted.number AND event.state = 'under_way'
    LEFT JOIN parked_events AS parked ON parked.position = event.position
    LEFT JOIN processed_events AS inbox
        ON inbox.key = event.key AND inbox.consumer = event.consumer AND inbox.identity = event.identity
    LEFT JOIN LATERAL (
        SELECT waiting.state, waiting.attempts FROM parked_events AS waiting
        WHERE waiting.consumer = event.consumer AND waiting.key = event.key
        ORDER BY waiting.position LIMIT 1
    ) AS head ON true
), free AS (
    SELECT event.replay, event.position, looked.state
    FROM looked JOIN replay_events AS event USING (replay, position)
    WHERE looked.state <> 'under_way' AND event.state = 'under_way'
    FOR NO KEY UPDATE OF event SKIP LOCKED
), kept AS (
    UPDATE replay_events AS event SET state = free.state
    FROM free WHERE event.replay = free.replay AND event.position = free.position
)
SELECT wanted.*, progress.*
FROM wanted
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE state = 'waiting') AS waiting,
        count(*) FILTER (WHERE state = 'under_way') AS under_way,
        count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE state = 'failed_again') AS failed_again,
        count(*) FILTER (WHERE state = 'discarded') AS discarded,
        count(*) FILTER (WHERE state = 'gone') AS gone
    FROM (
        SELECT state FROM looked WHERE looked.replay = wanted.number
        UNION ALL
        SELECT state FROM replay_events WHERE replay = wanted.number AND state <> 'under_way'
    ) AS event
) AS progress
ORDER BY wanted.number DESC;

-- name: claim_replay
-- Lease a running replay that is nobody's, or ours: that one first. A lease that ends later than one that begins now
-- was dated while the clock was ahead.
UPDATE replays SET claimed_by = $1, claimed_until = statement_timestamp() + $2 * interval '1 ms'
WHERE number = (
    SELECT number FROM replays
    WHERE state = 'running' AND (
        claimed_by IS NULL OR claimed_by = $1 OR claimed_until <= statement_timestamp()
        OR claimed_until > clock_timestamp() + $2 * interval '1 ms'
    )
    ORDER BY claimed_by IS DISTINCT FROM $1, number
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING number;

-- name: send
-- Make the next events of a replay due at once. Those that come before and are not dead any more are gone.
-- Rows are locked in order of position, and looked at again under the lock. An event that another replay had sent and
-- that is dead again has failed there, whatever becomes of it now. The arrays keep the planner, which knows nothing of
-- a table that was filled just now, from comparing every event of a large replay with every one that is sent.
WITH replay AS MATERIALIZED (
    SELECT number, who FROM replays WHERE number = $1 AND claimed_by = $3 FOR UPDATE
), next AS MATERIALIZED (
    SELECT event.position, parked.replays
    FROM replay_events AS event
    JOIN parked_events AS parked ON parked.position = event.position AND parked.state = 3
    WHERE event.replay = $1 AND event.state = 'waiting' AND EXISTS (SELECT FROM replay)
    ORDER BY event.position
    LIMIT $2
), locked AS MATERIALIZED (
    SELECT parked.position
    FROM next JOIN parked_events AS parked ON parked.position = next.position AND parked.replays = next.replays
    WHERE parked.state = 3
    ORDER BY parked.position
    FOR NO KEY UPDATE OF parked
), sent AS (
    UPDATE parked_events AS parked
    SET state = 2, replays = parked.replays + 1, next_attempt_at = statement_timestamp()
    FROM locked WHERE parked.position = locked.position
    RETURNING parked.position, parked.consumer, parked.key, parked.identity, parked.event_id, parked.attempts
), told AS (
    INSERT INTO parked_history (position, event_id, moment, attempt, who)
    SELECT sent.position, sent.event_id, 'replayed', sent.attempts, replay.who
    FROM sent CROSS JOIN replay
    ORDER BY sent.position
), marked AS (
    UPDATE replay_events AS event SET state = 'under_way', identity = sent.identity
    FROM sent
    WHERE event.replay = $1 AND event.position = ANY (ARRAY(SELECT position FROM sent))
        AND event.position = sent.position AND event.state = 'waiting'
), gone AS (
    UPDATE replay_events AS event SET state = 'gone'
    WHERE event.replay = $1 AND event.state = 'waiting' AND EXISTS (SELECT FROM replay)
        AND event.position <= (
            SELECT CASE WHEN count(*) < $2 THEN 9223372036854775807 ELSE max(position) END FROM next
        )
        AND event.position <> ALL (ARRAY(SELECT position FROM sent))
), failed AS (
    UPDATE replay_events AS event SET state = 'failed_again'
    FROM sent WHERE event.position = sent.position AND event.state = 'under_way' AND event.replay <> $1
)
SELECT consumer, key FROM sent GROUP BY consumer, key ORDER BY min(position);

-- name: finish_step
-- Go on, or end and give up the lease, with a row of the operators' log; nothing if it is not ours to go on with. Only a
-- running replay is claimed.
WITH stepped AS (
    UPDATE replays
    SET step = $2, state = $3, why = $4, claimed_by = CASE WHEN $3 = 'running' THEN claimed_by END,
        claimed_until = CASE WHEN $3 = 'running' THEN claimed_until END
    WHERE number = $1 AND claimed_by = $5
    RETURNING number, who, reason
), told AS (
    INSERT INTO operator_actions (who, action, target, reason, result)
    SELECT who, 'replay ' || $3, 'replay ' || number, reason, $6::text FROM stepped WHERE $3 <> 'running'
)
SELECT number FROM stepped;

-- name: pause_replay
-- An operator stops a running replay, with a row of the operators' log.
WITH paused AS (
    UPDATE replays SET state = 'paused', why = $2, claimed_by = NULL, claimed_until = NULL
    WHERE number = $1 AND state = 'running'
    RETURNING number
)
INSERT INTO operator_actions (who, action, target, reason, result)
SELECT $3, 'pause', 'replay ' || number, $4, 'Paused.' FROM paused
RETURNING number;

-- name: resume_replay
-- An operator lets it go on, with a row of the operators' log.
WITH resumed AS (
    UPDATE replays SET state = 'running', why = '' WHERE number = $1 AND state IN ('paused', 'stopped')
    RETURNING number
)
INSERT INTO operator_actions (who, action, target, reason, result)
SELECT $2, 'resume', 'replay ' || number, $3, 'Resumed.' FROM resumed
RETURNING number;
