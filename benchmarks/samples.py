"""Made-up orders for the benchmarks."""

from __future__ import annotations

import random
import time
from uuid import UUID

import msgspec

from orderflow.core.identity import uuid7

SKUS = ("SKU-ESPRESSO-CUP", "SKU-DESK-LAMP", "SKU-MILK-JUG", "SKU-WALL-CLOCK", "SKU-TEA-TOWEL", "SKU-BREAD-KNIFE")
PRICE = 1250
POISON_PRICE = 1251
"""By it a fault knows the orders that are made to fail: what customers are called is encrypted in events."""
_CHANCE = random.Random()


def sample_id() -> UUID:
    """A time-ordered id, as real keys are."""
    return uuid7(time.time_ns() // 1_000_000, _CHANCE)


def is_poison(number: int, poison_every: int) -> bool:
    """Whether this order is one of the one in `poison_every` (0: none) that are made to fail."""
    return poison_every > 0 and number % poison_every == poison_every - 1


def count_poison(orders: int, poison_every: int) -> int:
    """How many of so many orders are made to fail."""
    return orders // poison_every if poison_every else 0


def order_body(number: int, poison_every: int = 0) -> bytes:
    """A valid order of one line, about 150 bytes."""
    price = POISON_PRICE if is_poison(number, poison_every) else PRICE
    return msgspec.json.encode(
        {
            "customer_id": f"customer-{number % 1000}",
            "currency": "EUR",
            "payment_method": "pm_card_visa",
            "items": [{"sku": SKUS[number % len(SKUS)], "quantity": 1, "unit_price": price}],
        }
    )
