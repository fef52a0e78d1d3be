"""What a shop sends to place an order, with every bound that can be said by field."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orderflow.events.money import CURRENCIES
from orderflow.events.order import Item
from orderflow.events.sku import Sku
from orderflow.runtime.problems import FieldError, ProblemError
from orderflow.runtime.text import Text

UNIT_PRICE_MAX = 1_000_000_000
QUANTITY_MAX = 10_000
ITEMS_MAX = 100


class NewItem(Item, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line. Prices are the shop's, in minor units of the order's currency."""

    sku: Sku
    quantity: Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX, examples=[2])]
    unit_price: Annotated[int, msgspec.Meta(ge=0, le=UNIT_PRICE_MAX, examples=[1250])]


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to be placed. Its total is computed here: at most 100 x 10,000 x 1,000,000,000 = 10^15 minor
    units, which every JSON reader takes without loss.
    """

    customer_id: Annotated[
        Text,
        msgspec.Meta(min_length=1, max_length=100, examples=["customer-42"]),
    ]
    currency: Annotated[str, msgspec.Meta(min_length=3, max_length=3, examples=["EUR"])]
    items: Annotated[tuple[NewItem, ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]
    payment_method: Annotated[
        Text,
        msgspec.Meta(min_length=1, max_length=64, examples=["pm_card_visa"]),
    ]


def require_sound(order: NewOrder) -> None:
    """What no single field can say. Raises ProblemError 422 with the field named.

    A SKU may stand in one line only: two lines of one SKU could have two prices, and merging them would
    be a guess. A line may be free of charge, an order may not.
    """
    if order.currency not in CURRENCIES:
        raise _refused("/currency", f"{order.currency!r} is not a currency of ISO 4217 that can be paid in")
    if len(order.items) > 1:
        seen: set[str] = set()
        for index, item in enumerate(order.items):
            if item.sku in seen:
                raise _refused(f"/items/{index}/sku", f"{item.sku!r} stands in an earlier line already")
            seen.add(item.sku)
    if not any(item.unit_price for item in order.items):
        raise _refused("/items", "the total must be at least 1 minor unit")


def _refused(pointer: str, detail: str) -> ProblemError:
    return ProblemError(422, f"{pointer}: {detail}", errors=[FieldError(detail=detail, pointer=pointer)])
