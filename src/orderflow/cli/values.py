"""Values that a person types, and what is said when they do not fit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

EXAMPLE_ID = "01981c5e-7a40-7000-8000-0123456789ab"


def item(value: Any) -> dict[str, Any]:
    """`SKU:QUANTITY:UNIT_PRICE`, the price in minor units. The service checks the rest.

    Raises click.BadParameter.
    """
    if isinstance(value, dict):
        return value
    sku, _, numbers = str(value).partition(":")
    quantity, _, price = numbers.partition(":")
    if not sku or not _is_whole(quantity) or not _is_whole(price):
        raise click.BadParameter(
            f"{value!r} is not an item. Wanted: SKU:QUANTITY:UNIT_PRICE with the price in minor units, "
            "for example SKU-MILK-JUG:2:1250 (two at 12.50)"
        )
    return {"sku": sku, "quantity": int(quantity), "unit_price": int(price)}


def order_id(value: Any) -> str:
    """An order's id, which is a UUID. Raises click.BadParameter."""
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is not an order id. Wanted: a UUID such as {EXAMPLE_ID}; "
            "`orderflow order list` shows the ids of the newest orders"
        ) from error


def event_or_position(value: Any) -> str:
    """An event's id, which is a UUID, or a position. Raises click.BadParameter."""
    if _is_whole(str(value)):
        return str(value)
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no event id. Wanted: a UUID, or with --service a position; `orderflow dlt list` shows both"
        ) from error


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15
