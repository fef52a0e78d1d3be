"""What the load orders: a mix in which everything happens that can happen to an order, decided by a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orderflow.load.catalogue import PRICES, SOLD_OUT_SKU

CUSTOMER: Final = "chaos-"

APPROVED, DECLINED, SOLD_OUT, SLOW = "approved", "declined", "sold out", "slow bank"
LOST_CHARGED, LOST_NOT_CHARGED, FAILS_TWICE = "time-out, charged", "time-out, not charged", "bank fails twice"
INVALID = "invalid"
METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    APPROVED: ("pm_card_visa", "pm_card_mastercard", "pm_card_amex"),
    DECLINED: ("pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"),
    SOLD_OUT: ("pm_card_visa",),
    SLOW: ("pm_slow",),
    LOST_CHARGED: ("pm_timeout_charged",),
    LOST_NOT_CHARGED: ("pm_timeout_not_charged",),
    FAILS_TWICE: ("pm_fails_twice",),
    INVALID: ("pm_card_visa",),
}
SHARES: Final[Mapping[str, float]] = {
    APPROVED: 0.80,
    DECLINED: 0.08,
    SOLD_OUT: 0.05,
    SLOW: 0.015,
    LOST_CHARGED: 0.01,
    LOST_NOT_CHARGED: 0.01,
    FAILS_TWICE: 0.015,
    INVALID: 0.02,
}
WITH_KEY, REPEATED, OTHER_BODY = 0.9, 0.04, 0.02


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order that is to be placed. `customer` is its alone, so it is found whatever became of the answer.

    `key` is None where none is sent. `repeated`: the same request is sent again after the answer; `other_body`:
    another one is, under the same key.
    """

    number: int
    kind: str
    body: Mapping[str, Any]
    total: int
    key: str | None
    repeated: bool = False
    other_body: bool = False

    @property
    def customer(self) -> str:
        return str(self.body["customer_id"])


def wanted(seed: int, number: int) -> Wanted:
    """The order of that number: the same seed gives the same one."""
    chance = random.Random(f"order {seed} {number}")  # noqa: S311  (a mix of orders, nothing secret)
    kind = chance.choices(list(SHARES), list(SHARES.values()))[0]
    items = _items(kind, chance)
    total = sum(item["quantity"] * item["unit_price"] for item in items)
    body = {
        "customer_id": f"{CUSTOMER}{number}",
        "currency": chance.choices(("EUR", "USD", "JPY"), (0.7, 0.2, 0.1))[0],
        "items": items,
        "payment_method": chance.choice(METHODS[kind]),
    }
    key = f"chaos-{seed}-{number}" if chance.random() < WITH_KEY else None
    kept = key is not None and kind != INVALID
    return Wanted(
        number, kind, body, total, key, kept and chance.random() < REPEATED, kept and chance.random() < OTHER_BODY
    )


def _items(kind: str, chance: random.Random) -> list[dict[str, Any]]:
    lines = chance.choices((1, 2, 3), (0.6, 0.25, 0.15))[0]
    chosen = sorted(chance.sample(sorted(PRICES), lines))
    items = [{"sku": sku, "quantity": chance.choice((1, 1, 1, 2)), "unit_price": PRICES[sku]} for sku in chosen]
    if kind == SOLD_OUT:
        items.append({"sku": SOLD_OUT_SKU, "quantity": 1, "unit_price": 2500})
    if kind == INVALID:
        items[0]["quantity"] = 0
    return items
