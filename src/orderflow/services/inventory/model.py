"""Stock and reservations, and the decisions of the inventory service: pure functions of rows and one message."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from msgspec.structs import replace

from orderflow import Decision, Envelope, Fact, Ref, RefusedError, Row, Rows, Stated, Statement, handles
from orderflow.events import MissingLine, PaymentSucceeded, ReservedLine, StockRejected, StockReserved, order_id_of
from orderflow.services.inventory.messages import (
    ReleaseStock,
    SetStock,
    StockChangedError,
    StockLowered,
    StockReleased,
    StockSet,
)

ORDERED = ("customer_id", "currency", "items", "total")


class Stock(Row, frozen=True, kw_only=True):
    """One SKU: its free units (`on_hand`), and those reserved for orders. `version` counts its movements."""

    TABLE: ClassVar[str] = "stock"
    KEY: ClassVar[str] = "sku"
    CHANGED_AT: ClassVar[str] = "changed_at"

    sku: str
    on_hand: int
    reserved: int
    version: int


class MovementKind(StrEnum):
    """Why units moved: the free units were set, an order reserved some, or its reservation was released."""

    SET = "set"
    RESERVE = "reserve"
    RELEASE = "release"


class Movement(Fact, frozen=True, kw_only=True):
    """One change of one SKU; movement n led to version n. The sum of a SKU's movements is its stock.

    `cause` is the order's id, or the id of the command that set or released.
    """

    TABLE: ClassVar[str] = "movements"

    sku: str
    version: int
    kind: MovementKind
    cause: UUID
    on_hand_change: int
    reserved_change: int

    @property
    def id(self) -> tuple[str, int]:
        return (self.sku, self.version)


class ReservationStatus(StrEnum):
    """Whether an order got its units. RELEASED: it got them, failed nevertheless, and they were given back."""

    RESERVED = "RESERVED"
    REJECTED = "REJECTED"
    RELEASED = "RELEASED"


class Reservation(Fact, frozen=True, kw_only=True):
    """The result of an order's reservation: `lines` are reserved, or nothing is, because of what is `missing`."""

    TABLE: ClassVar[str] = "reservations"
    KEY: ClassVar[str] = "order_id"

    order_id: UUID
    status: ReservationStatus
    lines: tuple[ReservedLine, ...]
    missing: tuple[MissingLine, ...]
    customer_id: str


class Held(Row, frozen=True, kw_only=True):
    """A stored reservation, as it is read for restatement and for releasing its units.

    `customer_id` is None for reservations of an earlier release. `released_by` is the id of the command that released
    the units, and the cause of their movements.
    """

    TABLE: ClassVar[str] = "reservations"
    KEY: ClassVar[str] = "order_id"
    CHANGES: ClassVar[tuple[str, ...]] = ("status", "released_by")

    order_id: UUID
    status: ReservationStatus
    lines: tuple[ReservedLine, ...]
    missing: tuple[MissingLine, ...]
    customer_id: str | None = None
    released_by: UUID | None = None


def _its_skus(event: PaymentSucceeded) -> tuple[Ref, ...]:
    return tuple(Ref(Stock, item.sku) for item in event.items)


def _its_sku(command: SetStock) -> tuple[Ref, ...]:
    return (Ref(Stock, command.sku),)


def _what_is_held(command: ReleaseStock) -> tuple[Ref, ...]:
    return (Ref(Held, command.order_id), *(Ref(Stock, line.sku) for line in command.lines))


@handles(PaymentSucceeded, touches=_its_skus, trusts=ORDERED)
def payment_succeeded(rows: Rows, event: PaymentSucceeded) -> Decision:
    """Reserve all lines, or none. The reservation's key also ensures that an order gets one result.

    Nothing is stored of the order yet, so there is nothing to compare the event with. PaymentSucceeded itself ensures
    that a shop could have placed the order, with each SKU in one line.
    """
    lines = tuple(ReservedLine(sku=item.sku, quantity=item.quantity) for item in event.items)
    missing = tuple(_missing(rows, lines))
    if missing:
        return _reject(event, missing)
    stock = tuple(_reserve(rows.get(Stock, line.sku), line) for line in lines)
    movements = tuple(
        Movement(
            sku=line.sku,
            version=row.version,
            kind=MovementKind.RESERVE,
            cause=event.order_id,
            on_hand_change=-line.quantity,
            reserved_change=line.quantity,
        )
        for line, row in zip(lines, stock, strict=True)
    )
    reservation = Reservation(
        order_id=event.order_id,
        status=ReservationStatus.RESERVED,
        lines=lines,
        missing=(),
        customer_id=event.customer_id,
    )
    reserved = StockReserved(order_id=event.order_id, customer_id=event.customer_id, lines=lines)
    return Decision(rows=stock, facts=(reservation, *movements), events=(reserved,))


@handles(SetStock, touches=_its_sku)
def set_stock(rows: Rows, command: SetStock, envelope: Envelope) -> Decision:
    """Free units as stated; what is reserved stays reserved. Raises StockChangedError, RefusedError."""
    known = rows.get(Stock, command.sku)
    _require_unchanged(command, known)
    if known is not None and (command.only_if_new or known.on_hand == command.on_hand):
        return Decision(answer=_answer(known, created=False))
    if known is not None and command.on_hand < known.on_hand and not command.may_lower:
        raise RefusedError(StockLowered(known.sku, known.on_hand))
    before = known or Stock(sku=command.sku, on_hand=0, reserved=0, version=0)
    after = Stock(
        sku=command.sku,
        on_hand=command.on_hand,
        reserved=before.reserved,
        version=before.version + 1,
    )
    movement = Movement(
        sku=command.sku,
        version=after.version,
        kind=MovementKind.SET,
        cause=envelope.id,
        on_hand_change=after.on_hand - before.on_hand,
        reserved_change=0,
    )
    result = f"{before.on_hand} \u2192 {after.on_hand} free units, version {after.version}"
    answer = _answer(after, created=known is None)
    return Decision(rows=(after,), facts=(movement,), answer=answer, result=result)


def _require_unchanged(command: SetStock, known: Stock | None) -> None:
    version = None if known is None else known.version
    if command.if_match is not None and not command.if_match.match(version):
        stands = "it is not there" if version is None else f"its version is {version}"
        raise StockChangedError(f"{command.sku} is not as you last saw it: {stands}")
    if command.if_none_match is not None and command.if_none_match.match(version):
        raise StockChangedError(f"{command.sku} already exists: its version is {version}")


@handles(ReleaseStock, touches=_what_is_held)
def release_stock(rows: Rows, command: ReleaseStock, envelope: Envelope) -> Decision:
    """Give the units of all lines back, once. Repeating it changes nothing.

    Raises RefusedError: nothing is reserved, or not what is said, or not for the customer whose order failed.
    """
    held = rows.get(Held, command.order_id)
    if held is None or held.status is ReservationStatus.REJECTED:
        raise RefusedError(f"nothing is reserved for order {command.order_id}")
    units = sum(line.quantity for line in held.lines)
    if held.status is ReservationStatus.RELEASED:
        return Decision(answer=StockReleased(order_id=held.order_id, units=units, changed=False))
    failed, customer = command.because, held.customer_id
    if failed.order_id != held.order_id or customer not in (None, failed.customer_id) or command.lines != held.lines:
        raise RefusedError(f"what is reserved for order {held.order_id} is not what is to be released")
    stock: list[Stock] = []
    movements: list[Movement] = []
    for line in held.lines:
        before = rows.get(Stock, line.sku)
        if before is None or before.reserved < line.quantity:
            raise RefusedError(f"fewer than {line.quantity} of {line.sku} are reserved in all: look into that first")
        after = replace(
            before,
            on_hand=before.on_hand + line.quantity,
            reserved=before.reserved - line.quantity,
            version=before.version + 1,
        )
        stock.append(after)
        movements.append(_given_back(after, line.quantity, envelope))
    released = replace(held, status=ReservationStatus.RELEASED, released_by=envelope.id)
    answer = StockReleased(order_id=held.order_id, units=units, changed=True)
    result = f"{units} units of {len(held.lines)} SKUs were released."
    return Decision(rows=(*stock, released), facts=movements, answer=answer, result=result)


def reservation_of(key: str) -> tuple[Ref, ...]:
    """The reservation's row of the order with this key."""
    order_id = order_id_of(key)
    return () if order_id is None else (Ref(Held, order_id),)


def state_reservation(rows: Rows, key: str) -> Statement:
    """The event that the reservation stands for; none if it was released, or its customer is not known."""
    order_id = order_id_of(key)
    held = None if order_id is None else rows.get(Held, order_id)
    if held is None or held.customer_id is None:
        return Statement()
    match held.status:
        case ReservationStatus.RESERVED:
            reserved = StockReserved(order_id=held.order_id, customer_id=held.customer_id, lines=held.lines)
            return Statement(events=(Stated(reserved, 1),))
        case ReservationStatus.REJECTED:
            rejected = StockRejected(order_id=held.order_id, customer_id=held.customer_id, missing=held.missing)
            return Statement(events=(Stated(rejected, 1),))
        case ReservationStatus.RELEASED:
            return Statement()


def _missing(rows: Rows, lines: tuple[ReservedLine, ...]) -> Iterator[MissingLine]:
    for line in lines:
        stock = rows.get(Stock, line.sku)
        available = stock.on_hand if stock is not None else 0
        if available < line.quantity:
            yield MissingLine(sku=line.sku, requested=line.quantity, available=available)


def _reserve(stock: Stock | None, line: ReservedLine) -> Stock:
    assert stock is not None
    return Stock(
        sku=stock.sku,
        on_hand=stock.on_hand - line.quantity,
        reserved=stock.reserved + line.quantity,
        version=stock.version + 1,
    )


def _reject(event: PaymentSucceeded, missing: tuple[MissingLine, ...]) -> Decision:
    reservation = Reservation(
        order_id=event.order_id,
        status=ReservationStatus.REJECTED,
        lines=(),
        missing=missing,
        customer_id=event.customer_id,
    )
    rejected = StockRejected(order_id=event.order_id, customer_id=event.customer_id, missing=missing)
    return Decision(facts=(reservation,), events=(rejected,))


def _answer(stock: Stock, *, created: bool) -> StockSet:
    return StockSet(
        sku=stock.sku,
        on_hand=stock.on_hand,
        reserved=stock.reserved,
        version=stock.version,
        created=created,
    )


def _given_back(stock: Stock, quantity: int, envelope: Envelope) -> Movement:
    return Movement(
        sku=stock.sku,
        version=stock.version,
        kind=MovementKind.RELEASE,
        cause=envelope.id,
        on_hand_change=quantity,
        reserved_change=-quantity,
    )
