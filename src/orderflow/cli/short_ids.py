"""Short ids: the last eight hexadecimal digits of an id, for people to read and to type.

Not the first ones, as git has them: the ids of orders begin with the time, so all of one minute begin alike. Whoever
types one is asked for more digits where it could mean several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orderflow.cli.errors import NotFoundError, UsageOfIdError

if TYPE_CHECKING:
    from orderflow.cli.session import Session

DIGITS = 8
_SHORT = re.compile(r"[0-9a-f]{6,31}")


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
    from orderflow.cli import everywhere

    answers = everywhere.ask(session, lambda client: client.get(f"/ops/event-ids/{end}"))
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
            f"Several {what}s have ids that end with {end}: {', '.join(found)}. Wanted: more of the id, or all of it"
        )
    return found[0]
