-- The simulated bank's own book, in its own database: what it has done, by idempotency key.

CREATE TABLE bank_charges (
    key            text COLLATE "C" PRIMARY KEY,
    order_id       uuid NOT NULL,
    amount         bigint NOT NULL CHECK (amount > 0),
    currency       text NOT NULL,
    payment_method text NOT NULL,
    decline_code   text,
    reference      text NOT NULL,
    at             timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE bank_charges IS
    'Every charge that was decided, approved (no decline_code) or declined. Two approved rows of one order are a double charge.';

CREATE TABLE bank_refunds (
    key       text COLLATE "C" PRIMARY KEY,
    charge    text COLLATE "C" NOT NULL REFERENCES bank_charges (key),
    order_id  uuid NOT NULL,
    amount    bigint NOT NULL CHECK (amount > 0),
    currency  text NOT NULL,
    reference text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE bank_refunds IS 'Every refund. Two rows of one charge are a double refund.';

CREATE TABLE bank_calls (
    key   text COLLATE "C" PRIMARY KEY,
    calls integer NOT NULL CHECK (calls > 0)
);
COMMENT ON TABLE bank_calls IS
    'How often a charge was asked for, kept only for payment methods whose first calls misbehave.';
