"""What the payment service tells of an event that it could not handle, to reproduce it."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli.calls import ORDER_ID

HOSTILE = "''' + \"\"\""
MISSING = [{"sku": "SKU-A", "requested": 1, "available": 0}]
REPRODUCTION: dict[str, Any] = {
    "service": "payment",
    "consumer": "payment",
    "key": ORDER_ID,
    "identity": "orderflow.StockRejected",
    "event_id": ORDER_ID,
    "event_type": "orderflow.StockRejected.v1",
    "attempts": 6,
    "intent": None,
    "error": "IllegalTransitionError",
    "message": 'DECLINED """ \\ \n import os',
    "topic": "inventory-status",
    "partition": 1,
    "offset": 9,
    "timestamp": 1,
    "record_key": {"text": ORDER_ID, "base64": None},
    "value": {
        "text": json.dumps({"order_id": ORDER_ID, "customer_id": HOSTILE, "missing": MISSING}),
        "base64": None,
    },
    "headers": [
        [f"ce_{name}", {"text": value, "base64": None}]
        for name, value in {
            "specversion": "1.0",
            "id": ORDER_ID,
            "type": "orderflow.StockRejected.v1",
            "source": "/orderflow/inventory",
        }.items()
    ],
    "rows": [
        {
            "type": "orderflow.services.payment.model:Payment",
            "values": {
                "order_id": ORDER_ID,
                "customer_id": HOSTILE,
                "currency": "EUR",
                "items": [{"sku": "SKU-A", "quantity": 1, "unit_price": 5}],
                "amount": 5,
                "payment_method": "pm_card_visa",
                "status": "DECLINED",
                "version": 2,
                "event": "ChargeRefused",
            },
        }
    ],
}


def changed_row(**values: Any) -> dict[str, Any]:
    """The same, had its row other values."""
    row = REPRODUCTION["rows"][0]
    return {**REPRODUCTION, "rows": [{**row, "values": {**row["values"], **values}}]}
