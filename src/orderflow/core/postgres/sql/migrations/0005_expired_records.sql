-- Records that the log dropped before a consumer had read them.

CREATE TABLE expired_records (
    consumer        text COLLATE "C" NOT NULL,
    topic           text NOT NULL,
    partition       integer NOT NULL,
    first_lost      bigint NOT NULL,
    next_kept       bigint NOT NULL,
    noticed_at      timestamptz NOT NULL DEFAULT now(),
    acknowledged_at timestamptz,
    CONSTRAINT expired_records_once PRIMARY KEY (consumer, topic, partition, first_lost),
    CONSTRAINT expired_records_some CHECK (first_lost < next_kept)
);
COMMENT ON TABLE expired_records IS
    'Offsets from first_lost up to next_kept, exclusive: dropped by retention before the consumer had read them.';
COMMENT ON CONSTRAINT expired_records_once ON expired_records IS
    'Prevents a loss that goes on from being counted twice.';
COMMENT ON CONSTRAINT expired_records_some ON expired_records IS 'Prevents a loss of nothing.';
