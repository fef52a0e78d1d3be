"""A realistic mix of orders, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from orderflow.load.catalogue import PRICES, SOLD_OUT_SKU

APPROVED = "approved"
DECLINED = "declined"
NO_FUNDS = "no funds"
SOLD_OUT = "sold out"
SLOW = "slow bank"
LOST_CHARGED = "time-out, charged"
LOST_NOT_CHARGED = "time-out, not charged"
BANK_FAULTS = "bank fails twice"

SHARES: Mapping[str, float] = MappingProxyType(
    {
        APPROVED: 0.888,
        DECLINED: 0.04,
        NO_FUNDS: 0.03,
        SOLD_OUT: 0.03,
        SLOW: 0.005,
        LOST_CHARGED: 0.002,
        LOST_NOT_CHARGED: 0.002,
        BANK_FAULTS: 0.003,
    }
)
"""Kind → share of all orders. A kind that is rare comes early once, so that a small run shows it too."""

CUSTOMERS = 5000
FIRST_RARE, RARE_EVERY = 3, 2

_METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        APPROVED: ("pm_card_visa", "pm_card_mastercard", "pm_card_amex", "pm_card_visa_debit"),
        DECLINED: ("pm_card_chargeDeclined",),
        NO_FUNDS: ("pm_card_chargeDeclinedInsufficientFunds",),
        SOLD_OUT: ("pm_card_visa",),
        SLOW: ("pm_slow",),
        LOST_CHARGED: ("pm_timeout_charged",),
        LOST_NOT_CHARGED: ("pm_timeout_not_charged",),
        BANK_FAULTS: ("pm_fails_twice",),
    }
)


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """What will be posted. `kind` says what to expect of it."""

    kind: str
    body: bytes


def plan(count: int, seed: int) -> Iterator[PlannedOrder]:
    """`count` orders; made one by one, so that a long plan needs no room."""
    chance = random.Random(seed)  # noqa: S311  (a mix of demo orders, nothing secret)
    kinds, weights = list(SHARES), list(SHARES.values())
    encode = msgspec.json.Encoder().encode
    for number in range(count):
        kind = _early(number, kinds) or chance.choices(kinds, weights)[0]
        yield PlannedOrder(kind, encode(_order(kind, chance)))


def _early(number: int, kinds: list[str]) -> str | None:
    """The second kind for the fourth order, the third for the sixth, and so on."""
    position, between = divmod(number - FIRST_RARE, RARE_EVERY)
    rare = kinds[1:]
    return rare[position] if not between and 0 <= position < len(rare) else None


def _order(kind: str, chance: random.Random) -> dict[str, object]:
    skus = list(PRICES)
    lines = chance.choices((1, 2, 3, 4), (0.55, 0.27, 0.12, 0.06))[0]
    chosen = {skus[min(int(chance.expovariate(0.35)), len(skus) - 1)] for _ in range(lines)}
    items = [
        {"sku": sku, "quantity": chance.choices((1, 2, 3), (0.75, 0.2, 0.05))[0], "unit_price": PRICES[sku]}
        for sku in sorted(chosen)
    ]
    if kind == SOLD_OUT:
        items.append({"sku": SOLD_OUT_SKU, "quantity": 1, "unit_price": 2500})
    return {
        "customer_id": f"customer-{min(int(chance.paretovariate(1.1)), CUSTOMERS)}",
        "currency": chance.choices(("EUR", "USD", "JPY"), (0.8, 0.15, 0.05))[0],
        "items": items,
        "payment_method": chance.choice(_METHODS[kind]),
    }
