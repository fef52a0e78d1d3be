-- A refund that the bank refuses for good is a state of its own, which an operator settles.

ALTER TABLE payments
    ADD COLUMN refund_refusal text,
    DROP CONSTRAINT payments_status_check,
    DROP CONSTRAINT payments_captured,
    ADD CONSTRAINT payments_status_known CHECK (
        status IN (
            'CHARGING', 'UNKNOWN', 'CAPTURED', 'DECLINED', 'REFUND_DUE', 'REFUND_REFUSED', 'REFUNDED'
        )
    ),
    ADD CONSTRAINT payments_captured CHECK (
        captured = CASE
            WHEN status IN ('CAPTURED', 'REFUND_DUE', 'REFUND_REFUSED', 'REFUNDED') THEN amount
            ELSE 0
        END
    ),
    ADD CONSTRAINT payments_refused_for_a_reason CHECK ((status = 'REFUND_REFUSED') = (refund_refusal IS NOT NULL));
COMMENT ON COLUMN payments.refund_refusal IS 'The bank''s code, as long as the refund waits for an operator.';

-- Few rows are in it, and the column changes for these alone: other updates do not touch the index.
CREATE INDEX payments_refund_refused ON payments (order_id) WHERE refund_refusal IS NOT NULL;

INSERT INTO state_transitions (machine, before, event, after) VALUES
    ('payments', 'REFUND_DUE', 'RefundRefused', 'REFUND_REFUSED'),
    ('payments', 'REFUND_REFUSED', 'RefundApproved', 'REFUNDED'),
    ('payments', 'REFUND_REFUSED', 'RefundAskedAgain', 'REFUND_DUE'),
    ('payments', 'REFUND_DUE', 'SettledAsRefunded', 'REFUNDED'),
    ('payments', 'REFUND_REFUSED', 'SettledAsRefunded', 'REFUNDED'),
    ('payments', 'REFUND_DUE', 'SettledAsNotCharged', 'DECLINED'),
    ('payments', 'REFUND_REFUSED', 'SettledAsNotCharged', 'DECLINED');
