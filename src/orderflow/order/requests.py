"""What a shop sends to place an order, with every bound that can be said by field."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orderflow.events.currencies import CURRENCIES
from orderflow.events.order import ITEMS_MAX, QUANTITY_MAX, UNIT_PRICE_MAX, Item, fault_of
from orderflow.runtime.problems import FieldError, ProblemError
from orderflow.runtime.text import Text

_NOT_FREE = {"properties": {"unit_price": {"minimum": 1}}, "required": ["unit_price"]}


class NewItem(Item, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line. Prices are the shop's, in minor units of the order's currency."""

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
    currency: Annotated[
        str,
        msgspec.Meta(min_length=3, max_length=3, extra_json_schema={"enum": sorted(CURRENCIES)}, examples=["EUR"]),
    ]
    items: Annotated[
        tuple[NewItem, ...],
        msgspec.Meta(min_length=1, max_length=ITEMS_MAX, extra_json_schema={"contains": _NOT_FREE}),
    ]
    payment_method: Annotated[
        Text,
        msgspec.Meta(min_length=1, max_length=64, examples=["pm_card_visa"]),
    ]


def require_sound(order: NewOrder) -> None:
    """What no single field can say. Raises ProblemError 422 with the field named."""
    fault = fault_of(order.currency, order.items)
    if fault is not None:
        pointer, detail = fault
        raise ProblemError(422, f"{pointer}: {detail}", errors=[FieldError(detail=detail, pointer=pointer)])
