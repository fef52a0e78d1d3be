-- The core's tables of one service's database.

CREATE TABLE processed_events (
    key      text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    identity text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    state    smallint NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT processed_events_once PRIMARY KEY (key, consumer, identity),
    CONSTRAINT processed_events_state_known CHECK (state BETWEEN 1 AND 4)
);
COMMENT ON TABLE processed_events IS
    'The inbox: what became of each message, kept for ever. The key comes first because order ids are time-ordered: new rows land at the end of the index.';
COMMENT ON CONSTRAINT processed_events_once ON processed_events IS
    'Prevents a consumer from acting twice on one message of a key.';
COMMENT ON CONSTRAINT processed_events_state_known ON processed_events IS
    'Prevents a state that no release knows: 1 done, 2 parked, 3 dead, 4 discarded.';

CREATE TABLE streams (
    key     text COLLATE "C" NOT NULL,
    source  text COLLATE "C" NOT NULL,
    emitted bigint NOT NULL,
    CONSTRAINT streams_once PRIMARY KEY (key, source),
    CONSTRAINT streams_emitted_positive CHECK (emitted > 0)
) WITH (fillfactor = 80);
COMMENT ON TABLE streams IS 'How many events a source has published of a key: the next one gets the next number.';
COMMENT ON CONSTRAINT streams_once ON streams IS
    'Prevents two counts of one stream, and so two events with one id.';
COMMENT ON CONSTRAINT streams_emitted_positive ON streams IS
    'Prevents a count from before the first event.';

CREATE SEQUENCE outbox_id AS bigint CACHE 1;
COMMENT ON SEQUENCE outbox_id IS
    'CACHE 1: within a key, whose lock is held before an id is taken, ids are in commit order.';

CREATE TABLE outbox (
    id         bigint NOT NULL DEFAULT nextval('outbox_id'),
    segment    smallint NOT NULL,
    slot       smallint NOT NULL,
    topic      text NOT NULL,
    key        bytea,
    value      bytea,
    headers    bytea NOT NULL,
    event_id   uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_slot_not_negative CHECK (slot >= 0),
    CONSTRAINT outbox_record_fits CHECK (
        coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers) <= 2097152
    )
) PARTITION BY LIST (segment);
COMMENT ON TABLE outbox IS
    'A ledger of what was published: rows are only added; a segment that is wholly sent and old is truncated.';
COMMENT ON COLUMN outbox.headers IS 'MessagePack: an array of [name, value] pairs.';
COMMENT ON CONSTRAINT outbox_slot_not_negative ON outbox IS 'Prevents a row that no relay would own.';
COMMENT ON CONSTRAINT outbox_record_fits ON outbox IS
    'Prevents a record that no log would take (over 2 MiB) from stopping its slot for ever.';

CREATE TABLE outbox_0 PARTITION OF outbox (CONSTRAINT outbox_0_pkey PRIMARY KEY (id)) FOR VALUES IN (0);
CREATE TABLE outbox_1 PARTITION OF outbox (CONSTRAINT outbox_1_pkey PRIMARY KEY (id)) FOR VALUES IN (1);
CREATE TABLE outbox_2 PARTITION OF outbox (CONSTRAINT outbox_2_pkey PRIMARY KEY (id)) FOR VALUES IN (2);
CREATE TABLE outbox_3 PARTITION OF outbox (CONSTRAINT outbox_3_pkey PRIMARY KEY (id)) FOR VALUES IN (3);

CREATE TABLE outbox_rotation (
    only_row boolean NOT NULL DEFAULT true,
    segment  smallint NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_rotation_single PRIMARY KEY (only_row),
    CONSTRAINT outbox_rotation_single_true CHECK (only_row),
    CONSTRAINT outbox_rotation_segment_exists CHECK (segment BETWEEN 0 AND 3)
);
COMMENT ON TABLE outbox_rotation IS 'The segment that new outbox rows go to, and since when.';
COMMENT ON CONSTRAINT outbox_rotation_single ON outbox_rotation IS 'Prevents two current segments.';
COMMENT ON CONSTRAINT outbox_rotation_single_true ON outbox_rotation IS 'Prevents two current segments.';
COMMENT ON CONSTRAINT outbox_rotation_segment_exists ON outbox_rotation IS
    'Prevents a segment that has no partition, which would refuse every event.';
INSERT INTO outbox_rotation (segment) VALUES (0);

CREATE TABLE outbox_pending (
    id      bigint NOT NULL,
    segment smallint NOT NULL,
    slot    smallint NOT NULL,
    CONSTRAINT outbox_pending_pkey PRIMARY KEY (id)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 10000
);
COMMENT ON TABLE outbox_pending IS
    'The outbox rows that the log has not acknowledged yet: inserted with the row, deleted when it is sent.';
COMMENT ON CONSTRAINT outbox_pending_pkey ON outbox_pending IS 'Prevents a row from waiting twice, and so from being sent twice in one batch.';

CREATE FUNCTION outbox_empty_segment(emptied integer, keep_ms bigint) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    oldest_kept timestamptz := clock_timestamp() - keep_ms * interval '1 ms';
    purgeable boolean;
BEGIN
    FOR look IN 1..2 LOOP
        SELECT newest.created_at <= oldest_kept
            AND NOT EXISTS (SELECT FROM outbox_rotation WHERE segment = emptied)
            AND NOT EXISTS (SELECT FROM outbox_pending WHERE segment = emptied)
        INTO purgeable
        FROM (SELECT created_at FROM outbox WHERE segment = emptied ORDER BY id DESC LIMIT 1) AS newest;
        IF purgeable IS NOT TRUE THEN
            RETURN false;
        END IF;
        IF look = 1 THEN
            EXECUTE format('LOCK TABLE ONLY outbox_%s IN ACCESS EXCLUSIVE MODE', emptied);
        END IF;
    END LOOP;
    EXECUTE format('TRUNCATE ONLY outbox_%s', emptied);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION outbox_empty_segment IS
    'Truncates a segment that new rows do not go to, that is wholly sent, and whose newest row is older than keep_ms. Looks again once it holds the lock; gives up when somebody is using the segment.';

CREATE TABLE parked_events (
    position         bigint GENERATED ALWAYS AS IDENTITY,
    key              text COLLATE "C" NOT NULL,
    consumer         text COLLATE "C" NOT NULL,
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
    intent           text,
    state            smallint NOT NULL,
    attempts         integer NOT NULL,
    failure_kind     text,
    error            text,
    message          text,
    fingerprint      text,
    parked_at        timestamptz NOT NULL DEFAULT now(),
    first_failed_at  timestamptz,
    last_failed_at   timestamptz,
    next_attempt_at  timestamptz NOT NULL,
    CONSTRAINT parked_events_pkey PRIMARY KEY (position),
    CONSTRAINT parked_events_once UNIQUE (key, consumer, identity),
    CONSTRAINT parked_events_in_inbox FOREIGN KEY (key, consumer, identity) REFERENCES processed_events,
    CONSTRAINT parked_events_state_waits CHECK (state IN (2, 3)),
    CONSTRAINT parked_events_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT parked_events_dead_was_tried CHECK (state <> 3 OR attempts > 0),
    CONSTRAINT parked_events_failure_whole CHECK (
        (attempts = 0) = (failure_kind IS NULL) AND (failure_kind IS NULL) = (error IS NULL)
        AND (error IS NULL) = (message IS NULL) AND (message IS NULL) = (fingerprint IS NULL)
        AND (fingerprint IS NULL) = (first_failed_at IS NULL)
        AND (first_failed_at IS NULL) = (last_failed_at IS NULL)
    )
);
CREATE INDEX parked_events_by_key ON parked_events (consumer, key, position);
CREATE INDEX parked_events_dead ON parked_events (position) WHERE state = 3;
CREATE INDEX parked_events_by_event ON parked_events (event_id);
COMMENT ON TABLE parked_events IS
    'Messages that wait: the failing head of a key, and what is held behind it, in order of position.';
COMMENT ON COLUMN parked_events.record_timestamp IS 'Append time in the log, ms since the epoch, as the log gave it.';
COMMENT ON CONSTRAINT parked_events_pkey ON parked_events IS 'Prevents two events from standing at one place.';
COMMENT ON CONSTRAINT parked_events_once ON parked_events IS 'Prevents a redelivered message from being parked twice.';
COMMENT ON CONSTRAINT parked_events_in_inbox ON parked_events IS
    'Prevents a parked message that a redelivery would not recognise, and so would run past its place.';
COMMENT ON CONSTRAINT parked_events_state_waits ON parked_events IS
    'Prevents a message that is done or discarded from holding up its key: 2 parked, 3 dead.';
COMMENT ON CONSTRAINT parked_events_attempts_not_negative ON parked_events IS 'Prevents endless retries by a bad count.';
COMMENT ON CONSTRAINT parked_events_dead_was_tried ON parked_events IS
    'Prevents a message from being given up without having been tried.';
COMMENT ON CONSTRAINT parked_events_failure_whole ON parked_events IS
    'Prevents a failed message without a reason and times, and a held one with them.';

CREATE TABLE intents (
    key         text COLLATE "C" NOT NULL,
    kind        text NOT NULL,
    request     jsonb NOT NULL,
    message_key text COLLATE "C" NOT NULL,
    cause       uuid NOT NULL,
    traceparent text,
    attempts    integer NOT NULL,
    due_at      timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT intents_once PRIMARY KEY (key),
    CONSTRAINT intents_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT intents_request_is_object CHECK (jsonb_typeof(request) = 'object')
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX intents_due ON intents (due_at);
COMMENT ON TABLE intents IS
    'What is to be asked of the outside world and was not answered yet. due_at is the end of a lease or of a delay.';
COMMENT ON CONSTRAINT intents_once ON intents IS
    'Prevents two open wishes under one idempotency key.';
COMMENT ON CONSTRAINT intents_attempts_not_negative ON intents IS 'Prevents a count that back-off cannot read.';
COMMENT ON CONSTRAINT intents_request_is_object ON intents IS 'Prevents a request that no gateway could read.';
