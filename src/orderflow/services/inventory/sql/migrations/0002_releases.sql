-- What is reserved for an order that failed can be given back; and a reservation has all that its event says.

ALTER TABLE reservations
    ADD COLUMN customer_id text,
    ADD COLUMN released_by uuid,
    DROP CONSTRAINT reservations_all_or_none,
    ADD CONSTRAINT reservations_all_or_none CHECK (
        (status IN ('RESERVED', 'RELEASED') AND jsonb_array_length(lines) > 0 AND jsonb_array_length(missing) = 0)
        OR (status = 'REJECTED' AND jsonb_array_length(lines) = 0 AND jsonb_array_length(missing) > 0)
    ),
    ADD CONSTRAINT reservations_released_by_somebody CHECK ((status = 'RELEASED') = (released_by IS NOT NULL));
COMMENT ON COLUMN reservations.customer_id IS 'What an earlier release has reserved does not say it.';
COMMENT ON COLUMN reservations.released_by IS 'The command that gave the units back: the cause of their movements.';
COMMENT ON CONSTRAINT reservations_released_by_somebody ON reservations IS
    'Prevents units from being given back without a movement that says so.';

-- Few are in it, and who looks for the movements of an order looks here.
CREATE INDEX reservations_released ON reservations (order_id) WHERE released_by IS NOT NULL;

ALTER TABLE movements
    DROP CONSTRAINT movements_kind_check,
    ADD CONSTRAINT movements_kind_known CHECK (kind IN ('set', 'reserve', 'release')),
    ADD CONSTRAINT movements_release_gives_back CHECK (
        kind <> 'release' OR (reserved_change < 0 AND on_hand_change = -reserved_change)
    );
COMMENT ON CONSTRAINT movements_kind_known ON movements IS 'Prevents a movement that no release can name.';
COMMENT ON CONSTRAINT movements_release_gives_back ON movements IS 'Prevents units from vanishing as they are given back.';
