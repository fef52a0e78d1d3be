-- The order service: orders, their history, where they are stuck, and clients' idempotency keys.

CREATE TABLE orders (
    order_id uuid PRIMARY KEY,
    customer_id text NOT NULL CHECK (char_length(customer_id) BETWEEN 1 AND 100),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    items jsonb NOT NULL CHECK (jsonb_array_length(items) BETWEEN 1 AND 100),
    total bigint NOT NULL CHECK (total BETWEEN 1 AND 9007199254740991),
    payment_method text NOT NULL CHECK (char_length(payment_method) BETWEEN 1 AND 64),
    status text NOT NULL CHECK (status IN ('PENDING', 'PAID', 'COMPLETED', 'FAILED')),
    version integer NOT NULL CHECK (version >= 1),
    event text NOT NULL,
    reason text,
    refund text NOT NULL DEFAULT 'none' CHECK (refund IN ('none', 'due', 'done')),
    early jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- An order begins pending; whatever else it is, a transition has made it so.
    CONSTRAINT orders_begin_pending CHECK (version > 1 OR (status = 'PENDING' AND event = 'OrderPlaced')),
    CONSTRAINT orders_fail_for_a_reason CHECK ((status = 'FAILED') = (reason IS NOT NULL)),
    CONSTRAINT orders_completed_keep_the_money CHECK (status <> 'COMPLETED' OR refund = 'none'),
    CONSTRAINT orders_refund_due_when_failed CHECK (refund <> 'due' OR status = 'FAILED'),
    CONSTRAINT orders_early_while_pending CHECK (early IS NULL OR status IN ('PENDING', 'PAID'))
);

-- Unfinished orders are counted once a second and listed; finished ones leave this index.
CREATE INDEX orders_unfinished ON orders (order_id) WHERE status IN ('PENDING', 'PAID');
CREATE INDEX orders_failed ON orders (order_id) WHERE status = 'FAILED';

CREATE TRIGGER orders_guard_new
    BEFORE INSERT ON orders
    FOR EACH ROW
    WHEN (NEW.version <> 1)
    EXECUTE FUNCTION guard_transition();

CREATE TRIGGER orders_guard
    BEFORE UPDATE ON orders
    FOR EACH ROW
    WHEN (OLD.version <> NEW.version OR OLD.status <> NEW.status OR OLD.event <> NEW.event)
    EXECUTE FUNCTION guard_transition();

INSERT INTO state_transitions (machine, before, event, after) VALUES
    ('orders', 'PENDING', 'PaymentSucceeded', 'PAID'),
    ('orders', 'PENDING', 'PaymentFailed', 'FAILED'),
    ('orders', 'PAID', 'StockReserved', 'COMPLETED'),
    ('orders', 'PAID', 'StockRejected', 'FAILED');

CREATE TABLE order_history (
    order_id uuid NOT NULL,
    version integer NOT NULL CHECK (version > 1),
    from_status text NOT NULL,
    event text NOT NULL,
    to_status text NOT NULL,
    cause uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, version)
);

CREATE TABLE order_flow (
    order_id uuid PRIMARY KEY,
    stuck jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE idempotency_keys (
    idempotency_key text PRIMARY KEY CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    fingerprint text NOT NULL,
    order_id uuid NOT NULL,
    response text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Keys are removed oldest first, a few at a time.
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
