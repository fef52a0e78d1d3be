-- The payment service: one payment an order, which the database carries through legal states only.

CREATE TABLE payments (
    order_id uuid PRIMARY KEY,
    customer_id text NOT NULL CHECK (char_length(customer_id) BETWEEN 1 AND 100),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    items jsonb NOT NULL,
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 9007199254740991),
    payment_method text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('CHARGING', 'UNKNOWN', 'CAPTURED', 'DECLINED', 'REFUND_DUE', 'REFUNDED')),
    version integer NOT NULL CHECK (version >= 1),
    event text NOT NULL,
    captured bigint NOT NULL DEFAULT 0,
    refunded bigint NOT NULL DEFAULT 0,
    reason text,
    charge_reference text,
    refund_reference text,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payments_begin_charging CHECK (version > 1 OR (status = 'CHARGING' AND event = 'OrderPlaced')),
    -- All or nothing is captured, and it is captured exactly in the states that say so.
    CONSTRAINT payments_captured CHECK (
        captured = CASE WHEN status IN ('CAPTURED', 'REFUND_DUE', 'REFUNDED') THEN amount ELSE 0 END
    ),
    CONSTRAINT payments_refunded CHECK (
        refunded >= 0 AND refunded <= captured
        AND refunded = CASE WHEN status = 'REFUNDED' THEN captured ELSE 0 END
    ),
    CONSTRAINT payments_charge_reference CHECK ((captured > 0) = (charge_reference IS NOT NULL)),
    CONSTRAINT payments_refund_reference CHECK ((refunded > 0) = (refund_reference IS NOT NULL)),
    CONSTRAINT payments_decline_for_a_reason CHECK ((status = 'DECLINED') = (reason IS NOT NULL))
);

CREATE TRIGGER payments_guard_new
    BEFORE INSERT ON payments
    FOR EACH ROW
    WHEN (NEW.version <> 1)
    EXECUTE FUNCTION guard_transition();

CREATE TRIGGER payments_guard
    BEFORE UPDATE ON payments
    FOR EACH ROW
    WHEN (OLD.version <> NEW.version OR OLD.status <> NEW.status OR OLD.event <> NEW.event)
    EXECUTE FUNCTION guard_transition();

INSERT INTO state_transitions (machine, before, event, after) VALUES
    ('payments', 'CHARGING', 'ChargeApproved', 'CAPTURED'),
    ('payments', 'CHARGING', 'ChargeRefused', 'DECLINED'),
    ('payments', 'CHARGING', 'ChargeUnknown', 'UNKNOWN'),
    ('payments', 'UNKNOWN', 'ChargeApproved', 'CAPTURED'),
    ('payments', 'UNKNOWN', 'ChargeRefused', 'DECLINED'),
    ('payments', 'CAPTURED', 'StockRejected', 'REFUND_DUE'),
    ('payments', 'REFUND_DUE', 'RefundApproved', 'REFUNDED');
