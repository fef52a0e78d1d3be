"""Values that a person types, and what is said when they do not fit.

A short id is the last eight hexadecimal digits of an id, for people to read and to type. Not the first ones, as git
has them: the ids of orders begin with the time, so all of one minute begin alike. Whoever types one is asked for
more digits where it could mean several.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from orderflow.cli.errors import NotFoundError, UsageOfIdError

if TYPE_CHECKING:
    from orderflow.cli.session import Session

DIGITS = 8
_SHORT = re.compile(r"[0-9a-f]{6,31}")


EMPTY = "it is empty or blank. Is the variable set that the value should come from?"


def is_blank(value: object) -> bool:
    """Whether it is a text of which nothing can be seen."""
    return isinstance(value, str) and not value.strip()


class FilledPath(click.Path):
    """A path, as a `Path`. An empty name, which is usually a variable that is not set, is not this folder."""

    def __init__(self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click.BadParameter."""
        if is_blank(value):
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class ShortOrder(str):
    """The end of an order's id."""

    __slots__ = ()


class ShortEvent(str):
    """The end of an event's id."""

    __slots__ = ()


def short(value: str) -> str:
    """Of a UUID its end; other text as it is."""
    try:
        return str(UUID(value))[-DIGITS:] if len(value) == len(str(UUID(int=0))) else value
    except ValueError:
        return value


def digits(value: str) -> str | None:
    """What could be the end of an id, without hyphens; None for other text."""
    plain = value.strip().lower().removeprefix("...").replace("-", "")
    return plain if _SHORT.fullmatch(plain) else None


def ends_with(value: str, end: str) -> bool:
    """Whether an id ends with these digits."""
    return value.replace("-", "").endswith(end)


def resolved(session: Session, value: Any) -> Any:
    """The whole id for each short one in what a command was given.

    Raises NotFoundError, UsageOfIdError: it could mean several; UnreachableError: who knows cannot be asked.
    """
    match value:
        case ShortOrder():
            return _only(value, "order", _orders(session, value))
        case ShortEvent():
            return _only(value, "event", _events(session, value))
        case tuple() if type(value) is tuple:
            return tuple(resolved(session, each) for each in value)
    resolve: Callable[[Callable[[Any], Any]], Any] | None = getattr(value, "with_ids", None)
    return value if resolve is None else resolve(lambda each: resolved(session, each))


def _orders(session: Session, end: str) -> Sequence[str]:
    with session.client("order") as client:
        return [order["id"] for order in client.get("/orders", {"id_ends": end, "limit": 10})["orders"]]


def _events(session: Session, end: str) -> Sequence[str]:
    from orderflow.cli import session as cli_session

    answers = cli_session.ask(session, lambda client: client.get(f"/ops/event-ids/{end}"))
    found = {each for ids in answers.found.values() for each in ids or ()}
    if not found:
        answers.require_all()
    return sorted(found)


def _only(end: str, what: str, found: Sequence[str]) -> str:
    if not found:
        where = "orderflow order list" if what == "order" else "orderflow dlt list"
        raise NotFoundError(f"No {what} has an id that ends with {end}. See what there is with: {where}")
    if len(found) > 1:
        raise UsageOfIdError(
            f"Several {what}s have ids that end with {end}: {', '.join(found)}. Give more of the id, or all of it"
        )
    return found[0]


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
            f"{value!r} is not an item. Expected: SKU:QUANTITY:UNIT_PRICE with the price in minor units, "
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
            f"{value!r} is not an order id. Expected: a UUID such as {EXAMPLE_ID}, or its last digits; "
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
            f"{value!r} is not an event id. Expected: a UUID, its last digits, or with --service a position; "
            "`orderflow dlt list` shows both"
        ) from error


def age(value: Any) -> int:
    """`90s`, `10m`, `2h`, `1d` in ms. Raises click.BadParameter."""
    if isinstance(value, int):
        return value
    number, unit = str(value)[:-1], str(value)[-1:]
    if not _is_whole(number) or unit not in AGE_UNITS_MS or len(number) > 6:
        raise click.BadParameter(
            f"{value!r} is not an age. Expected: a number with s, m, h or d, such as 90s, 10m, 2h or 1d"
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
            f"{value!r} is not a time. Expected: one such as 2026-05-12T08:00 or 2026-05-12T08:00:00Z, "
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
