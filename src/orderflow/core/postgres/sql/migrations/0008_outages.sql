-- What operators say of outages, instead of what each process judges.

CREATE TABLE outage_overrules (
    consumer   text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    verdict    text NOT NULL,
    who        text NOT NULL,
    reason     text NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outage_overrules_one PRIMARY KEY (consumer, event_type),
    CONSTRAINT outage_overrules_verdict_known CHECK (verdict IN ('outage', 'poison'))
);
COMMENT ON TABLE outage_overrules IS
    'What failures of an event type are to be taken for. It holds for a while, in every process of the service.';
COMMENT ON CONSTRAINT outage_overrules_one ON outage_overrules IS
    'Prevents two words on the failures of one type.';
COMMENT ON CONSTRAINT outage_overrules_verdict_known ON outage_overrules IS
    'Prevents a verdict that no process knows how to follow.';
