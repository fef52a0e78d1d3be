-- An order has one end, and a customer can be told that nothing was charged.

ALTER TABLE notifications
    DROP CONSTRAINT notifications_outcome_check,
    ADD CONSTRAINT notifications_outcome_known CHECK (
        outcome IN ('completed', 'failed', 'refunded', 'not_charged')
    );

CREATE UNIQUE INDEX notifications_one_end ON notifications (order_id) WHERE outcome IN ('completed', 'failed');
COMMENT ON INDEX notifications_one_end IS 'Prevents a customer from being told that one order was completed and failed.';
