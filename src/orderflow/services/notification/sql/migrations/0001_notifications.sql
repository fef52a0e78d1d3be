-- The notification service: what customers were told, once an outcome of an order.

CREATE TABLE notifications (
    order_id    uuid NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('completed', 'failed', 'refunded')),
    customer_id text NOT NULL,
    reason      text,
    text        text NOT NULL,
    cause       uuid NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT notifications_once_an_outcome PRIMARY KEY (order_id, outcome),
    CONSTRAINT notifications_failed_for_a_reason CHECK ((outcome = 'failed') = (reason IS NOT NULL))
);
COMMENT ON CONSTRAINT notifications_once_an_outcome ON notifications IS
    'Prevents a customer from being told twice.';
