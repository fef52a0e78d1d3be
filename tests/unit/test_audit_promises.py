"""Each promise is broken in books that were in order, and the audit says which and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orderflow.audit.books import (
    BankEntry,
    Books,
    OrderBooks,
    OrderRow,
    OrderStepRow,
    ParkedRow,
    PaymentRow,
    ReservationRow,
    ServiceBooks,
    StockBooks,
)
from orderflow.audit.findings import Finding, Kind, Promise
from orderflow.audit.promises import check

TOTAL = 700
LINES = (("mug", 2), ("tea", 1))
PAID_STEP = OrderStepRow(2, "PENDING", "PaymentSucceeded", "PAID")
CHARGE = BankEntry("charge", "charge:1", "EUR", TOTAL)
REFUND = BankEntry("refund", "refund:1", "EUR", TOTAL)


def completed() -> OrderBooks:
    return OrderBooks(
        order_id="completed",
        order=order("COMPLETED", version=3, event="StockReserved"),
        history=(PAID_STEP, OrderStepRow(3, "PAID", "StockReserved", "COMPLETED")),
        payment=payment("CAPTURED", captured=TOTAL),
        bank=(CHARGE,),
        reservations=(ReservationRow("RESERVED", LINES),),
        movements=LINES,
        notifications=("completed",),
    )


def declined() -> OrderBooks:
    return OrderBooks(
        order_id="declined",
        order=order("FAILED", version=2, event="PaymentFailed"),
        history=(OrderStepRow(2, "PENDING", "PaymentFailed", "FAILED"),),
        payment=payment("DECLINED"),
        notifications=("failed",),
    )


def refunded() -> OrderBooks:
    return OrderBooks(
        order_id="refunded",
        order=order("FAILED", version=3, event="StockRejected", refund="done"),
        history=(PAID_STEP, OrderStepRow(3, "PAID", "StockRejected", "FAILED")),
        payment=payment("REFUNDED", captured=TOTAL, refunded=TOTAL),
        bank=(CHARGE, REFUND),
        reservations=(ReservationRow("REJECTED", ()),),
        notifications=("failed", "refunded"),
    )


def refused() -> OrderBooks:
    """The bank will not give the money back; the order says so."""
    return replace(
        refunded(),
        order_id="refused",
        order=order("FAILED", version=3, event="StockRejected", refund="refused"),
        payment=payment("REFUND_REFUSED", captured=TOTAL),
        bank=(CHARGE,),
        notifications=("failed",),
    )


def refunded_by_word() -> OrderBooks:
    """An operator has given the money back in another way: the bank's book does not have it."""
    paid_back = replace(payment("REFUNDED", TOTAL, TOTAL), refund_by_operator=True)
    return replace(refunded(), order_id="by word", payment=paid_back, bank=(CHARGE,))


def voided() -> OrderBooks:
    """An operator had said that it was charged, and found that it was not."""
    row = order("FAILED", version=3, event="StockRejected", refund="void")
    never = replace(payment("DECLINED"), by_operator=True)
    return replace(
        refunded(), order_id="voided", order=row, payment=never, bank=(), notifications=("failed", "not_charged")
    )


def pending() -> OrderBooks:
    return OrderBooks(
        order_id="pending",
        order=order("PENDING", version=1, event="OrderPlaced"),
        payment=payment("CHARGING"),
        bank=(CHARGE,),
        intents=("charge:1",),
    )


def stuck() -> OrderBooks:
    """Given up by inventory; the order says so."""
    parked = ParkedRow("inventory", "inventory", "orderflow.PaymentSucceeded.v1", "dead", 6)
    paid = replace(
        completed(), order_id="stuck", history=(PAID_STEP,), reservations=(), movements=(), notifications=()
    )
    row = order("PAID", version=2, event="PaymentSucceeded", stuck={"inventory": "dead"})
    return replace(paid, order=row, parked=(parked,))


def order(
    status: str, *, version: int, event: str, refund: str = "none", stuck: dict[str, str] | None = None
) -> OrderRow:
    return OrderRow(
        status=status,
        version=version,
        event=event,
        currency="EUR",
        total=TOTAL,
        lines=LINES,
        refund=refund,
        stuck=stuck or {},
    )


def payment(status: str, captured: int = 0, refunded: int = 0) -> PaymentRow:
    return PaymentRow(status=status, currency="EUR", amount=TOTAL, captured=captured, refunded=refunded)


def changed(books: OrderBooks, **fields: object) -> OrderBooks:
    """The books with another order row."""
    assert books.order is not None
    return replace(books, order=replace(books.order, **fields))  # type: ignore[arg-type]


def stock(**fields: int) -> StockBooks:
    given = {"on_hand": 8, "reserved": 2, "adjusted": 10, "moved": 2, "held": 2, **fields}
    return StockBooks(sku="mug", **given)


def findings(books: OrderBooks, *, at_rest: bool = True) -> list[Finding]:
    return check(Books(orders=[books]), at_rest=at_rest).findings


@pytest.mark.parametrize("good", [completed, declined, refunded, refused, refunded_by_word, voided, stuck])
@pytest.mark.parametrize("at_rest", [True, False])
def test_books_in_order_have_no_findings(good: Callable[[], OrderBooks], at_rest: bool) -> None:
    assert findings(good(), at_rest=at_rest) == []


def test_an_order_that_has_not_heard_yet_that_its_payment_is_void_is_no_finding() -> None:
    behind = replace(voided(), order=order("PAID", version=2, event="PaymentSucceeded"), history=(PAID_STEP,))

    assert findings(behind, at_rest=False) == []


def test_an_order_under_way_is_a_finding_only_at_rest() -> None:
    assert findings(pending(), at_rest=False) == []
    told = {finding.promise for finding in findings(pending())}
    assert told >= {Promise.NOTHING_LOST, Promise.NOTHING_TWICE}


LOST = {
    "not final": changed(completed(), status="PAID", version=2),
    "refund due": changed(refunded(), refund="due"),
    "open intent": replace(completed(), intents=("charge:1",)),
}
TWICE = {
    "two charges": replace(completed(), bank=(CHARGE, replace(CHARGE, key="charge:2"))),
    "two refunds": replace(refunded(), bank=(CHARGE, REFUND, replace(REFUND, key="refund:2"))),
    "two reservations": replace(completed(), reservations=completed().reservations * 2, movements=LINES * 2),
    "two notifications": replace(completed(), notifications=("completed", "completed")),
    "stock moved twice": replace(completed(), movements=LINES * 2),
    "the bank never charged": replace(completed(), bank=()),
    "the bank never refunded": replace(refunded(), bank=(CHARGE,)),
    "another amount charged": replace(completed(), bank=(replace(CHARGE, amount=TOTAL + 1),)),
    "charged although declined": replace(declined(), bank=(CHARGE,)),
    "refused refund of what the bank never charged": replace(refused(), bank=()),
    "refunded twice, by the bank and by word": replace(refunded_by_word(), bank=(CHARGE, REFUND, REFUND)),
    "refunded by word what the bank never charged": replace(refunded_by_word(), bank=()),
    "charged although voided": replace(voided(), bank=(CHARGE,)),
}
ILLEGAL = {
    "final state left": replace(
        changed(completed(), status="FAILED", version=4),
        history=(*completed().history, OrderStepRow(4, "COMPLETED", "StockRejected", "FAILED")),
    ),
    "step missing": replace(completed(), history=completed().history[:1]),
    "gap": replace(completed(), history=(PAID_STEP, OrderStepRow(4, "PAID", "StockReserved", "COMPLETED"))),
    "skipped a state": replace(completed(), history=(OrderStepRow(2, "PENDING", "StockReserved", "COMPLETED"),)),
    "completed with a refund": changed(completed(), refund="due"),
    "refunded more than captured": replace(refunded(), payment=payment("REFUNDED", TOTAL, TOTAL + 1)),
    "negative capture": replace(declined(), payment=payment("DECLINED", -1)),
}
BLOCKED = {
    "held behind nothing": replace(stuck(), parked=(replace(stuck().parked[0], state="parked", attempts=0),)),
    "two heads": replace(stuck(), parked=stuck().parked * 2),
    "stuck in silence": changed(stuck(), stuck={}),
    "refused in silence": changed(refused(), refund="due"),
    "said to be refused and is not": changed(refunded(), refund="refused"),
    "said to be stuck and is not": changed(completed(), stuck={"payment": "parked"}),
}
UNBALANCED = {
    "completed unpaid": replace(completed(), payment=payment("REFUNDED", TOTAL, TOTAL)),
    "failed keeps money": replace(refunded(), payment=payment("CAPTURED", TOTAL), bank=(CHARGE,)),
    "completed without stock": replace(completed(), reservations=(), movements=()),
    "completed with other stock": replace(completed(), reservations=(ReservationRow("RESERVED", LINES[:1]),)),
    "failed holds stock": replace(refunded(), reservations=completed().reservations, movements=LINES),
    "other amount": replace(completed(), payment=replace(payment("CAPTURED", TOTAL), amount=TOTAL + 1)),
    "other currency": replace(completed(), payment=replace(payment("CAPTURED", TOTAL), currency="USD")),
    "no payment": replace(completed(), payment=None),
    "refunded by nobody's word": replace(refunded(), bank=(CHARGE,)),
    "not told that nothing was charged": replace(voided(), notifications=("failed",)),
    "nobody was told": replace(completed(), notifications=()),
    "told the wrong thing": replace(completed(), notifications=("failed",)),
    "payment of no order": replace(completed(), order=None),
}


@pytest.mark.parametrize(
    ("promise", "broken"),
    [
        pytest.param(promise, broken, id=f"promise {int(promise)}, {name}")
        for promise, cases in (
            (Promise.NOTHING_LOST, LOST),
            (Promise.NOTHING_TWICE, TWICE),
            (Promise.NOTHING_ILLEGAL, ILLEGAL),
            (Promise.NOTHING_BLOCKED, BLOCKED),
            (Promise.BOOKS_BALANCE, UNBALANCED),
        )
        for name, broken in cases.items()
    ],
)
def test_a_broken_promise_is_found_on_its_order(promise: Promise, broken: OrderBooks) -> None:
    found = findings(broken)
    assert promise in {finding.promise for finding in found}
    assert {finding.subject for finding in found} == {broken.order_id}


def test_what_waits_behind_a_head_that_was_handled_a_moment_ago_is_a_finding_only_at_rest() -> None:
    held = BLOCKED["held behind nothing"]
    assert findings(held, at_rest=False) == []
    assert Kind.HELD_BEHIND_NOTHING in {each.kind for each in findings(held)}


def test_what_was_given_up_excuses_no_double_charge() -> None:
    broken = replace(stuck(), bank=(CHARGE, replace(CHARGE, key="charge:2")))
    assert Promise.NOTHING_TWICE in {finding.promise for finding in findings(broken)}


def test_an_accepted_order_that_nobody_has_is_lost() -> None:
    report = check(Books(orders=[completed()]), at_rest=True, accepted=["completed", "vanished"])
    assert [(finding.promise, finding.subject) for finding in report.findings] == [(Promise.NOTHING_LOST, "vanished")]


@pytest.mark.parametrize(
    ("promise", "broken"),
    [
        (Promise.NOTHING_ILLEGAL, stock(on_hand=-1, adjusted=1)),
        (Promise.NOTHING_ILLEGAL, stock(reserved=-2, on_hand=12, moved=-2, held=-2)),
        (Promise.BOOKS_BALANCE, stock(on_hand=7)),
        (Promise.BOOKS_BALANCE, stock(moved=1)),
        (Promise.BOOKS_BALANCE, stock(held=3)),
    ],
)
def test_stock_that_does_not_add_up_is_found_also_in_flight(promise: Promise, broken: StockBooks) -> None:
    report = check(Books(stock=[broken]), at_rest=False)
    assert {(finding.promise, finding.subject) for finding in report.findings} == {(promise, "mug")}


def test_stock_that_adds_up_has_no_findings() -> None:
    assert check(Books(stock=[stock()]), at_rest=True).findings == []


@pytest.mark.parametrize(
    "busy",
    [
        ServiceBooks(service="order", unsent=1),
        ServiceBooks(service="order", open_intents=1),
        ServiceBooks(service="order", retrying=1),
        ServiceBooks(service="order", lag={"order": 1}),
    ],
)
def test_a_service_that_is_busy_is_a_finding_only_at_rest(busy: ServiceBooks) -> None:
    assert not busy.is_at_rest
    assert check(Books(services=[busy]), at_rest=False).findings == []
    [finding] = check(Books(services=[busy]), at_rest=True).findings
    assert (finding.promise, finding.subject) == (Promise.NOTHING_LOST, "order")
    assert str(finding).startswith("promise 1, work-left, order: ")


def test_a_report_counts_orders_by_status_and_those_that_are_stuck() -> None:
    books = [completed(), declined(), refunded(), refused(), refunded_by_word(), stuck()]
    report = check(Books(orders=books), at_rest=True)
    assert (report.orders, report.stuck, report.refunded_by_word) == (6, 2, 1)
    assert report.statuses == {"COMPLETED": 1, "FAILED": 4, "PAID": 1}


@pytest.mark.parametrize("at_rest", [True, False])
def test_an_operator_and_the_bank_who_disagree_are_a_finding_in_these_words(at_rest: bool) -> None:
    words = "an operator settled the charge, and the bank's book says otherwise"
    as_charged, as_declined = completed(), declined()
    assert as_charged.payment is not None
    assert as_declined.payment is not None
    as_charged = replace(as_charged, payment=replace(as_charged.payment, by_operator=True))
    as_declined = replace(as_declined, payment=replace(as_declined.payment, by_operator=True))
    assert findings(as_charged) == findings(as_declined) == []

    unpaid = findings(replace(as_charged, bank=()), at_rest=at_rest)
    paid = findings(replace(as_declined, bank=(CHARGE,)), at_rest=at_rest)

    assert (unpaid[0].what, unpaid[0].expected, unpaid[0].found) == (words, "700", "0")
    assert (paid[0].what, paid[0].expected, paid[0].found) == (words, "0", "700")
