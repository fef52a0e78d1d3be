-- Every step of a refund is a row of the order's history, and it can be refused, or found to be of nothing.

ALTER TABLE orders
    DROP CONSTRAINT orders_refund_check,
    ADD CONSTRAINT orders_refund_known CHECK (refund IN ('none', 'due', 'refused', 'done', 'void'));

CREATE TABLE order_refunds (
    number   bigint GENERATED ALWAYS AS IDENTITY,
    order_id uuid NOT NULL,
    version  integer NOT NULL CHECK (version >= 1),
    refund   text NOT NULL,
    event    text NOT NULL,
    cause    uuid NOT NULL,
    reason   text,
    at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT order_refunds_once_a_cause PRIMARY KEY (order_id, cause),
    CONSTRAINT order_refunds_known CHECK (refund IN ('due', 'refused', 'done', 'void')),
    CONSTRAINT order_refunds_refused_for_a_reason CHECK ((refund = 'refused') = (reason IS NOT NULL))
);
COMMENT ON TABLE order_refunds IS
    'Each step of an order''s refund, and the version of the order at that time: a refund changes neither status nor version.';
COMMENT ON COLUMN order_refunds.number IS
    'The order of the steps: several of one transaction have one time.';
COMMENT ON CONSTRAINT order_refunds_once_a_cause ON order_refunds IS 'Prevents an event from being counted twice.';
COMMENT ON CONSTRAINT order_refunds_known ON order_refunds IS 'Prevents a step that no release can name.';
COMMENT ON CONSTRAINT order_refunds_refused_for_a_reason ON order_refunds IS 'Prevents a refusal that nobody can follow up.';
