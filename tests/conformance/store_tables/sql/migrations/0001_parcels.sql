CREATE TABLE parcels (
    parcel_id text PRIMARY KEY,
    state     text NOT NULL,
    weight    integer NOT NULL,
    fragile   boolean NOT NULL,
    owner     uuid,
    packed_at timestamptz,
    note      text,
    lines     jsonb NOT NULL
);

CREATE FUNCTION check_parcel_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (CASE TG_OP WHEN 'INSERT' THEN '' ELSE OLD.state END, NEW.state)
        NOT IN (('', 'PACKED'), ('PACKED', 'SENT'), ('SENT', 'ARRIVED')) THEN
        RAISE EXCEPTION 'illegal state %', NEW.state USING ERRCODE = 'OF001';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER parcels_state BEFORE INSERT OR UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION check_parcel_state();

CREATE TABLE counters (
    counter_id text PRIMARY KEY,
    value      bigint NOT NULL CONSTRAINT counters_value_not_negative CHECK (value >= 0)
);

CREATE TABLE moves (
    parcel_id text NOT NULL,
    number    integer NOT NULL,
    place     text NOT NULL,
    PRIMARY KEY (parcel_id, number)
);
