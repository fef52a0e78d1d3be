-- What is given back was reserved until then, whoever writes.

CREATE FUNCTION guard_release() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'reservations: what is % cannot be given back', OLD.status USING ERRCODE = 'check_violation';
END $$;
COMMENT ON FUNCTION guard_release IS 'Refuses the release of an order that has nothing reserved, or no longer.';

CREATE TRIGGER reservations_released_once
    BEFORE UPDATE ON reservations
    FOR EACH ROW
    WHEN (OLD.status <> 'RESERVED' AND NEW.status = 'RELEASED')
    EXECUTE FUNCTION guard_release();
