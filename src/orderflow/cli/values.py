"""Values that a person types, and what is said when they do not fit."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import click

from orderflow.cli.short_ids import DIGITS, ShortEvent, ShortOrder, digits

EXAMPLE_ID = "01981c5e-7a40-7000-8000-0123456789ab"
AGE_UNITS_MS = MappingProxyType({"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000})


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
    """An order's id, which is a UUID, or its end. Raises click.BadParameter."""
    if isinstance(value, ShortOrder):
        return value
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        if (end := digits(str(value))) is not None:
            return ShortOrder(end)
        raise click.BadParameter(
            f"{value!r} is not an order id. Wanted: a UUID such as {EXAMPLE_ID}, or its last digits; "
            "`orderflow order list` shows the ids of the newest orders"
        ) from error


def key(value: Any) -> str:
    """A key of records: an order's id, its end, or any other text."""
    try:
        return order_id(value)
    except click.BadParameter:
        return str(value)


def event_or_position(value: Any) -> str:
    """An event's id, which is a UUID, or its end, or a position. Raises click.BadParameter."""
    if isinstance(value, ShortEvent) or (_is_whole(str(value)) and len(str(value)) < DIGITS):
        return value if isinstance(value, ShortEvent) else str(value)
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        if (end := digits(str(value))) is not None:
            return ShortEvent(end)
        raise click.BadParameter(
            f"{value!r} is no event id. Wanted: a UUID, its last digits, or with --service a position; "
            "`orderflow dlt list` shows both"
        ) from error


def age(value: Any) -> int:
    """`90s`, `10m`, `2h`, `1d` in ms. Raises click.BadParameter."""
    if isinstance(value, int):
        return value
    number, unit = str(value)[:-1], str(value)[-1:]
    if not _is_whole(number) or unit not in AGE_UNITS_MS or len(number) > 6:
        raise click.BadParameter(
            f"{value!r} is no age. Wanted: a number with s, m, h or d, such as 90s, 10m, 2h or 1d"
        )
    return int(number) * AGE_UNITS_MS[unit]


def instant(value: Any) -> int:
    """A time such as `2026-05-12T08:00` (of this machine's zone, if it names none), or how long ago: `2h`.

    In ms since the epoch. Raises click.BadParameter.
    """
    if isinstance(value, int):
        return value
    with suppress(click.BadParameter):
        return int(time.time() * 1000) - age(value)
    try:
        return int(datetime.fromisoformat(str(value)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{value!r} is no time. Wanted: one such as 2026-05-12T08:00 or 2026-05-12T08:00:00Z, "
            "or how long ago, such as 10m, 2h or 1d"
        ) from error


def is_id(text: str) -> bool:
    """Whether it is a UUID."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15
