-- What operators need: the history of each failing event, edits, replays, notes, and a log of what they did.

ALTER TABLE parked_events
    ADD COLUMN replays integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT parked_events_replays_not_negative CHECK (replays >= 0);
COMMENT ON CONSTRAINT parked_events_replays_not_negative ON parked_events IS 'Prevents a count that nobody could read.';

CREATE TABLE edited_events (
    position         bigint NOT NULL,
    consumer         text COLLATE "C" NOT NULL,
    key              text COLLATE "C" NOT NULL,
    identity         text COLLATE "C" NOT NULL,
    event_id         uuid NOT NULL,
    event_type       text NOT NULL,
    topic            text NOT NULL,
    partition        integer NOT NULL,
    "offset"         bigint NOT NULL,
    record_key       bytea,
    record_value     bytea,
    record_headers   bytea NOT NULL,
    record_timestamp bigint NOT NULL,
    edited_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT edited_events_once PRIMARY KEY (position)
);
CREATE INDEX edited_events_by_event ON edited_events (event_id);
COMMENT ON TABLE edited_events IS
    'What came in, of each parked event that an operator has edited, as it was before the first edit. Kept for ever.';
COMMENT ON CONSTRAINT edited_events_once ON edited_events IS
    'Prevents a second edit from taking the place of what came in.';

CREATE VIEW letters AS
SELECT
    parked.position, parked.consumer, parked.key, parked.identity, parked.event_id, parked.event_type, parked.topic,
    parked.partition, parked."offset", parked.record_key, parked.record_value, parked.record_headers,
    parked.record_timestamp, parked.intent, parked.state, parked.attempts, parked.failure_kind, parked.error,
    parked.message, parked.fingerprint, parked.parked_at, parked.first_failed_at, parked.last_failed_at,
    parked.next_attempt_at, parked.replays,
    original.event_id AS original_id, original.record_key AS original_key, original.record_value AS original_value,
    original.record_headers AS original_headers,
    (
        SELECT count(*) FROM parked_events AS later
        WHERE later.consumer = parked.consumer AND later.key = parked.key AND later.position > parked.position
    ) AS behind
FROM parked_events AS parked
LEFT JOIN edited_events AS original ON original.position = parked.position;
COMMENT ON VIEW letters IS
    'Parked events as an operator sees them: with what came in, if they were edited, and how many wait behind them.';

CREATE TABLE parked_history (
    number   bigint GENERATED ALWAYS AS IDENTITY,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    moment   text NOT NULL,
    attempt  integer NOT NULL,
    error    text NOT NULL DEFAULT '',
    message  text NOT NULL DEFAULT '',
    who      text NOT NULL DEFAULT '',
    CONSTRAINT parked_history_in_order PRIMARY KEY (position, number),
    CONSTRAINT parked_history_moment_known CHECK (moment IN ('failed', 'dead', 'replayed', 'edited'))
);
CREATE INDEX parked_history_by_event ON parked_history (event_id);
COMMENT ON TABLE parked_history IS
    'Each failure, replay and edit of a parked event. Kept for ever, like its row of the inbox, and far rarer: found by event id when the event waits no longer.';
COMMENT ON CONSTRAINT parked_history_in_order ON parked_history IS 'Prevents two moments at one place in the order.';
COMMENT ON CONSTRAINT parked_history_moment_known ON parked_history IS 'Prevents a moment that no release can name.';

CREATE TABLE letter_notes (
    fingerprint text NOT NULL,
    note        text NOT NULL,
    who         text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT letter_notes_one PRIMARY KEY (fingerprint)
);
COMMENT ON TABLE letter_notes IS 'What operators have written down about a kind of failure, and who did last.';
COMMENT ON CONSTRAINT letter_notes_one ON letter_notes IS 'Prevents two notes on one kind of failure.';

CREATE TABLE operator_actions (
    number bigint GENERATED ALWAYS AS IDENTITY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    who    text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    result text NOT NULL,
    CONSTRAINT operator_actions_in_order PRIMARY KEY (number)
);
COMMENT ON TABLE operator_actions IS 'Who did what, when, why, and with what result. Rows are only added.';
COMMENT ON CONSTRAINT operator_actions_in_order ON operator_actions IS 'Prevents two actions under one number.';

CREATE TABLE replays (
    number        bigint GENERATED ALWAYS AS IDENTITY,
    plan          jsonb NOT NULL,
    who           text NOT NULL,
    reason        text NOT NULL,
    state         text NOT NULL DEFAULT 'running',
    why           text NOT NULL DEFAULT '',
    step          integer NOT NULL DEFAULT 0,
    lag_before    bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    claimed_by    text,
    claimed_until timestamptz,
    CONSTRAINT replays_numbered PRIMARY KEY (number),
    CONSTRAINT replays_state_known CHECK (state IN ('running', 'paused', 'stopped', 'done')),
    CONSTRAINT replays_claimed_while_running CHECK (
        (claimed_by IS NULL) = (claimed_until IS NULL) AND (claimed_by IS NULL OR state = 'running')
    )
);
CREATE INDEX replays_running ON replays (number) WHERE state = 'running';
COMMENT ON TABLE replays IS
    'Replays of dead events. One process at a time works on a running one: claimed_by, until its lease ends.';
COMMENT ON CONSTRAINT replays_numbered ON replays IS 'Prevents two replays under one number.';
COMMENT ON CONSTRAINT replays_state_known ON replays IS 'Prevents a state that no release knows how to go on from.';
COMMENT ON CONSTRAINT replays_claimed_while_running ON replays IS
    'Prevents a lease without an end, and one on a replay that must not go on.';

CREATE TABLE replay_events (
    replay   bigint NOT NULL,
    position bigint NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    identity text COLLATE "C" NOT NULL,
    state    text NOT NULL DEFAULT 'waiting',
    CONSTRAINT replay_events_once PRIMARY KEY (replay, position),
    CONSTRAINT replay_events_of_a_replay FOREIGN KEY (replay) REFERENCES replays,
    CONSTRAINT replay_events_state_known CHECK (
        state IN ('waiting', 'under_way', 'succeeded', 'failed_again', 'discarded', 'gone')
    )
);
CREATE INDEX replay_events_by_state ON replay_events (replay, state, position);
CREATE INDEX replay_events_under_way ON replay_events (position) WHERE state = 'under_way';
COMMENT ON TABLE replay_events IS
    'The events of each replay and what became of them there: the last four states are final.';
COMMENT ON COLUMN replay_events.identity IS 'The identity under which the event was sent, that of its row of the inbox.';
COMMENT ON CONSTRAINT replay_events_once ON replay_events IS 'Prevents an event from being sent twice by one replay.';
COMMENT ON CONSTRAINT replay_events_of_a_replay ON replay_events IS 'Prevents an event that no replay would ever send.';
COMMENT ON CONSTRAINT replay_events_state_known ON replay_events IS 'Prevents an outcome that no count includes.';
