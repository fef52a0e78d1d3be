-- The inventory service: stock by SKU, every movement of it, and one answer an order.

CREATE TABLE stock (
    sku        text COLLATE "C" PRIMARY KEY CHECK (char_length(sku) BETWEEN 1 AND 64),
    on_hand    bigint NOT NULL,
    reserved   bigint NOT NULL,
    version    bigint NOT NULL CHECK (version >= 1),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stock_on_hand_not_negative CHECK (on_hand >= 0),
    CONSTRAINT stock_reserved_not_negative CHECK (reserved >= 0)
) WITH (fillfactor = 50);
COMMENT ON CONSTRAINT stock_on_hand_not_negative ON stock IS 'Prevents a unit from being sold twice.';
COMMENT ON CONSTRAINT stock_reserved_not_negative ON stock IS 'Prevents more from being taken back than was set aside.';

CREATE TABLE movements (
    sku             text COLLATE "C" NOT NULL,
    version         bigint NOT NULL CHECK (version >= 1),
    kind            text NOT NULL CHECK (kind IN ('set', 'reserve')),
    cause           uuid NOT NULL,
    on_hand_change  bigint NOT NULL,
    reserved_change bigint NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT movements_in_order PRIMARY KEY (sku, version),
    CONSTRAINT movements_once_a_cause UNIQUE (cause, sku),
    CONSTRAINT movements_reserve_moves_units CHECK (
        kind <> 'reserve' OR (reserved_change > 0 AND on_hand_change = -reserved_change)
    ),
    CONSTRAINT movements_set_leaves_reserved CHECK (kind <> 'set' OR reserved_change = 0)
);
COMMENT ON TABLE movements IS
    'The audit log: added up by SKU, the changes are the stock. Rows are only added.';
COMMENT ON CONSTRAINT movements_in_order ON movements IS
    'Prevents two movements from making one version of a SKU; a gap is a movement that is missing.';
COMMENT ON CONSTRAINT movements_once_a_cause ON movements IS
    'Prevents an order from taking its units twice.';

CREATE TABLE reservations (
    order_id   uuid NOT NULL,
    status     text NOT NULL,
    lines      jsonb NOT NULL,
    missing    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reservations_one_an_order PRIMARY KEY (order_id),
    CONSTRAINT reservations_all_or_none CHECK (
        (status = 'RESERVED' AND jsonb_array_length(lines) > 0 AND jsonb_array_length(missing) = 0)
        OR (status = 'REJECTED' AND jsonb_array_length(lines) = 0 AND jsonb_array_length(missing) > 0)
    )
);
COMMENT ON CONSTRAINT reservations_one_an_order ON reservations IS 'Prevents an order from being answered twice.';
