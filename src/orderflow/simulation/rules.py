"""What the services' PostgreSQL schemas refuse beyond uniqueness, said to the databases in memory."""

from __future__ import annotations

from collections.abc import Callable

from orderflow.inventory.model import Stock
from orderflow.messaging.machine import StateMachine
from orderflow.messaging.rows import Row
from orderflow.messaging.store import DataRefusedError, TransitionRefusedError
from orderflow.order.model import MACHINE as ORDERS
from orderflow.order.model import Order
from orderflow.payment.model import MACHINE as PAYMENTS
from orderflow.payment.model import Payment

Check = Callable[[Row | None, Row], None]
ILLEGAL_TRANSITION = "OF001"
STEPWISE = (Order, Payment)


def check_row(before: Row | None, after: Row) -> None:
    """Raises DataRefusedError for what a trigger or a check constraint of the schemas would refuse."""
    match after:
        case Order():
            _guard(ORDERS, before if isinstance(before, Order) else None, after)
        case Payment():
            _guard(PAYMENTS, before if isinstance(before, Payment) else None, after)
            _hold(0 <= after.refunded <= after.captured <= after.amount, "payments_captured")
        case Stock():
            _hold(after.on_hand >= 0, "stock_on_hand_not_negative")
            _hold(after.reserved >= 0, "stock_reserved_not_negative")
        case _:
            pass


def _guard(machine: StateMachine, before: Order | Payment | None, after: Order | Payment) -> None:
    """The trigger `guard_transition`."""
    if before is None:
        legal = (after.version, str(after.status), after.event) == (1, machine.initial, machine.created_by)
    elif (before.version, before.status, before.event) == (after.version, after.status, after.event):
        legal = True
    else:
        following = machine.transitions.get((before.status, after.event))
        legal = after.version == before.version + 1 and following == after.status
    if not legal:
        raise TransitionRefusedError(f"{machine.name}: no transition to {after.status}", ILLEGAL_TRANSITION)


def _hold(condition: bool, constraint: str) -> None:
    if not condition:
        raise DataRefusedError(f"the rule {constraint} was broken", "23514", constraint)
