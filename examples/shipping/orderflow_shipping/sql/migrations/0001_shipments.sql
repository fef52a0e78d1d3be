-- One parcel an order.

CREATE TABLE shipments (
    order_id uuid PRIMARY KEY,
    parcel   text NOT NULL UNIQUE,
    lines    jsonb NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
