-- State machines as data: the table of legal transitions, and the trigger function that enforces it.

CREATE TABLE state_transitions (
    machine text NOT NULL,
    before  text NOT NULL,
    event   text NOT NULL,
    after   text NOT NULL,
    CONSTRAINT state_transitions_one_answer PRIMARY KEY (machine, before, event)
);
COMMENT ON TABLE state_transitions IS
    'Which event takes a row of the table `machine` from which state to which. Compared with the code at every start.';
COMMENT ON CONSTRAINT state_transitions_one_answer ON state_transitions IS
    'Prevents a machine in which an event leads from one state to two.';

CREATE FUNCTION guard_transition() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION '%: a new row has version 1, not %', TG_TABLE_NAME, NEW.version USING ERRCODE = 'OF001';
    END IF;
    IF NEW.version IS DISTINCT FROM OLD.version + 1 OR NOT EXISTS (
        SELECT FROM state_transitions
        WHERE machine = TG_TABLE_NAME AND before = OLD.status AND event = NEW.event AND after = NEW.status
    ) THEN
        RAISE EXCEPTION '%: % (version %) by % to % (version %) is not a transition',
            TG_TABLE_NAME, OLD.status, OLD.version, NEW.event, NEW.status, NEW.version
            USING ERRCODE = 'OF001';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION guard_transition IS
    'For tables with status, version and event: refuses, with SQLSTATE OF001, what state_transitions does not list.';
