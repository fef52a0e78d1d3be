"""Made-up orders for the benchmarks."""

from __future__ import annotations

import random
import time
from uuid import UUID

import msgspec

from orderflow.messaging.identity import uuid7

SKUS = ("SKU-ESPRESSO-CUP", "SKU-DESK-LAMP", "SKU-MILK-JUG", "SKU-WALL-CLOCK", "SKU-TEA-TOWEL", "SKU-BREAD-KNIFE")
_CHANCE = random.Random()


def sample_id() -> UUID:
    """A time-ordered id, as real keys are."""
    return uuid7(time.time_ns() // 1_000_000, _CHANCE)


def order_body(number: int) -> bytes:
    """A valid order of one line, about 150 bytes."""
    return msgspec.json.encode(
        {
            "customer_id": f"customer-{number % 1000}",
            "currency": "EUR",
            "payment_method": "pm_card_visa",
            "items": [{"sku": SKUS[number % len(SKUS)], "quantity": 1, "unit_price": 1250}],
        }
    )
