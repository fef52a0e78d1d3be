"""The plan of a repair, from what the services say and how their consumers stand to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from orderflow.audit.findings import CATALOGUE, Finding, Kind
from orderflow.audit.repair import RepairAction, RepairPlan, for_persons, orders_of, plan
from orderflow.core.operations.repairing import Regard, Regarded, Said, Standing
from tests.support.decisions import id_of

ORDER = str(id_of("order"))
OTHER = str(id_of("other"))
SERVICES = ("order", "payment", "inventory", "notification")
OWNERS = {
    "OrderPlaced": "order",
    "OrderCompleted": "order",
    "OrderFailed": "order",
    "PaymentSucceeded": "payment",
    "PaymentFailed": "payment",
    "PaymentRefunded": "payment",
    "RefundFailed": "payment",
    "StockReserved": "inventory",
    "StockRejected": "inventory",
}
COMPLETED = ("OrderPlaced", "PaymentSucceeded", "StockReserved", "OrderCompleted")
REFUNDED = ("OrderPlaced", "PaymentSucceeded", "StockRejected", "OrderFailed", "PaymentRefunded")
DECLINED = ("OrderPlaced", "PaymentFailed", "OrderFailed")


def said(name: str, reason: str = "out_of_stock") -> Said:
    value = {"order_id": ORDER, "customer_id": "c", "reason": reason}
    return Said(
        type=f"orderflow.{name}.v1",
        topic="t",
        event_id=str(id_of(name)),
        source=f"/orderflow/{OWNERS[name]}",
        sequence=1,
        value=msgspec.json.encode(value).decode(),
    )


def standings(*names: str, reason: str = "out_of_stock", asks: tuple[str, ...] = ()) -> dict[str, Standing]:
    return {
        service: Standing(
            said=tuple(said(name, reason) for name in names if OWNERS[name] == service),
            asks=asks if service == "payment" else (),
        )
        for service in SERVICES
    }


def regard(consumer: str, regards: Mapping[str, Regard], why: str = "") -> dict[str, Sequence[Regarded]]:
    found = [
        Regarded(consumer=consumer, type=f"orderflow.{name}.v1", regard=each, why=why)
        for name, each in regards.items()
    ]
    return {consumer: found}


def finding(kind: Kind, *, subject: str = ORDER, expected: str = "", where: str = "", event: str = "") -> Finding:
    return Finding(kind, subject, expected, "", where, None, event)


def steps(found: RepairPlan) -> list[tuple[str, RepairAction, tuple[str, ...]]]:
    return [(step.service, step.act, step.events) for step in found.steps]


def test_what_never_came_is_said_again_by_its_owner_and_what_has_no_effect_is_taken_again() -> None:
    lost = finding(Kind.ORDER_NOT_FINAL)
    stands = regard("order", {"PaymentSucceeded": Regard.LOST, "StockReserved": Regard.MISSING})
    stands |= regard("payment", {"OrderPlaced": Regard.KNOWN})
    found = plan(ORDER, [lost], standings(*COMPLETED[:3]), stands)
    assert steps(found) == [
        ("order", RepairAction.TAKE_AGAIN, ("PaymentSucceeded",)),
        ("inventory", RepairAction.SAY_AGAIN, ("StockReserved",)),
    ]
    assert [step.said for step in found.steps] == [(said("PaymentSucceeded"),), (said("StockReserved"),)]
    assert (found.heals, found.persons) == ([lost], [])


def test_one_service_says_all_that_is_missing_at_any_reader_at_once() -> None:
    stands = regard("order", {"PaymentSucceeded": Regard.MISSING, "PaymentRefunded": Regard.MISSING})
    stands |= regard("notification", {"PaymentRefunded": Regard.MISSING})
    found = plan(ORDER, [finding(Kind.NOTIFICATION_MISSING)], standings(*REFUNDED), stands)
    assert steps(found) == [("payment", RepairAction.SAY_AGAIN, ("PaymentSucceeded", "PaymentRefunded"))]


@pytest.mark.parametrize(
    ("names", "reason", "contradicting"),
    [
        ((*COMPLETED, "PaymentRefunded"), "", "PaymentRefunded"),
        ((*COMPLETED, "RefundFailed"), "", "RefundFailed"),
        (("OrderPlaced", "OrderCompleted", "PaymentFailed"), "", "PaymentFailed"),
        (("OrderPlaced", "OrderCompleted", "StockRejected"), "", "StockRejected"),
        ((*REFUNDED[:2], "OrderFailed", "StockReserved"), "out_of_stock", "StockReserved"),
        (("OrderPlaced", "PaymentFailed", "OrderFailed"), "out_of_stock", "PaymentFailed"),
        ((*DECLINED, "StockReserved"), "card_declined", "StockReserved"),
        ((*DECLINED, "StockRejected"), "card_declined", "StockRejected"),
        (("OrderPlaced", "PaymentSucceeded", "OrderFailed"), "card_declined", "PaymentSucceeded"),
        (("OrderPlaced", "PaymentFailed", "StockReserved"), "", "PaymentFailed"),
        (("OrderPlaced", "PaymentFailed", "StockReserved"), "", "StockReserved"),
        (("OrderPlaced", "PaymentSucceeded", "StockReserved", "PaymentRefunded"), "", "StockReserved"),
    ],
)
def test_nothing_is_said_that_contradicts_how_the_order_stands(
    names: tuple[str, ...], reason: str, contradicting: str
) -> None:
    disagree = finding(Kind.SERVICES_DISAGREE)
    for each in (Regard.MISSING, Regard.LOST):
        stands = regard("notification", {contradicting: each})
        found = plan(ORDER, [disagree], standings(*names, reason=reason), stands)
        assert found.steps == []
        [person] = found.persons
        assert person.finding is disagree
        assert f"{contradicting}, which {OWNERS[contradicting]} says, contradicts" in person.why


@pytest.mark.parametrize(
    ("stands", "words"),
    [
        (Regard.REFUSED, "notification would refuse StockRejected (because)"),
        (Regard.WAITS, "StockRejected waits at notification: see orderflow dlt list"),
        (Regard.GIVEN_UP, "StockRejected was discarded at notification by an operator"),
    ],
)
def test_what_stands_in_the_way_is_told_to_a_person(stands: Regard, words: str) -> None:
    regards = regard("notification", {"StockRejected": stands}, why="because")
    found = plan(ORDER, [finding(Kind.REFUND_MISSING)], standings(*REFUNDED), regards)
    assert found.steps == []
    assert words in found.persons[0].why
    assert "orderflow order show ORDER" in found.persons[0].remedy


@pytest.mark.parametrize("regarded", [Regard.MISSING, Regard.LOST])
def test_a_service_outside_of_the_saga_is_given_only_what_it_is_said_to_have_lost(regarded: Regard) -> None:
    """It need not refuse what it has had already."""
    stands = regard("shipping", {"StockReserved": regarded, "StockRejected": regarded})
    mended = finding(Kind.NOTIFICATION_MISSING)
    assert plan(ORDER, [mended], standings(*COMPLETED), stands).steps == []
    lost = finding(Kind.EVENT_NEVER_RECEIVED, where="shipping", event="StockReserved")
    elsewhere = finding(Kind.EVENT_NEVER_RECEIVED, where="returns", event="StockReserved")
    assert plan(ORDER, [elsewhere], standings(*COMPLETED), stands).steps == []
    again = {
        Regard.MISSING: ("inventory", RepairAction.SAY_AGAIN, ("StockReserved",)),
        Regard.LOST: ("shipping", RepairAction.TAKE_AGAIN, ("StockReserved",)),
    }
    assert steps(plan(ORDER, [mended, lost], standings(*COMPLETED), stands)) == [again[regarded]]


def test_the_bank_is_asked_again_for_what_the_rows_call_for() -> None:
    asks = (f"refund:{ORDER}",)
    found = plan(ORDER, [finding(Kind.INTENT_MISSING)], standings(*REFUNDED[:4], asks=asks), {})
    assert steps(found) == [("payment", RepairAction.ASK_AGAIN, asks)]


def test_stock_of_a_failed_order_is_released_with_what_the_order_service_says() -> None:
    names = (*DECLINED, "StockReserved")
    held = finding(Kind.RESERVATION_TO_RELEASE)
    found = plan(ORDER, [held], standings(*names, reason="card_declined"), {})
    assert steps(found) == [("inventory", RepairAction.RELEASE, ())]
    assert found.steps[0].said == (said("OrderFailed", "card_declined"), said("StockReserved", "card_declined"))
    for less in ((*DECLINED,), ("OrderPlaced", "PaymentSucceeded", "StockReserved")):
        assert plan(ORDER, [held], standings(*less), {}).steps == []


@pytest.mark.parametrize(
    ("found", "said_again"),
    [
        (finding(Kind.EVENT_NEVER_SENT, event="OrderCompleted", where="order"), ("OrderCompleted",)),
        (finding(Kind.RECORD_MISSING, expected=f"{id_of('OrderPlaced')} on order-events"), ("OrderPlaced",)),
        (finding(Kind.SEQUENCE_GAP, where="order"), ("OrderPlaced", "OrderCompleted")),
    ],
)
def test_what_the_topic_lacks_is_said_again_although_our_readers_know_it(
    found: Finding, said_again: tuple[str, ...]
) -> None:
    stands = regard("payment", {"OrderPlaced": Regard.KNOWN})
    assert steps(plan(ORDER, [found], standings(*COMPLETED), stands)) == [
        ("order", RepairAction.SAY_AGAIN, said_again)
    ]


def test_every_service_shows_again_where_an_order_is_stuck() -> None:
    found = plan(ORDER, [finding(Kind.STUCK_NOT_SHOWN)], standings(*COMPLETED), {})
    assert steps(found) == [(service, RepairAction.SHOW, ()) for service in SERVICES]


def test_what_no_event_heals_goes_to_a_person_with_what_to_do() -> None:
    twice, missing = finding(Kind.DOUBLE_CHARGE), finding(Kind.NOTIFICATION_MISSING)
    elsewhere = finding(Kind.DOUBLE_REFUND, subject=OTHER)
    stock = finding(Kind.STOCK_NEGATIVE, subject="SKU-1")
    everything = [twice, missing, elsewhere, stock]
    assert orders_of(everything) == {ORDER: [twice, missing]}
    assert [each.finding for each in for_persons(everything)] == [elsewhere, stock]
    stands = regard("notification", {"StockReserved": Regard.LOST})
    found = plan(ORDER, [twice, missing], standings(*COMPLETED), stands)
    assert found.heals == [missing]
    assert [(each.finding, each.remedy) for each in found.persons] == [(twice, CATALOGUE[Kind.DOUBLE_CHARGE].remedy)]


def test_every_step_says_in_words_what_it_does() -> None:
    names = (*DECLINED, "StockReserved")
    findings = [finding(Kind.RESERVATION_TO_RELEASE), finding(Kind.STUCK_NOT_SHOWN)]
    stands = regard("order", {"PaymentFailed": Regard.LOST}) | regard("payment", {"OrderPlaced": Regard.MISSING})
    found = plan(ORDER, findings, standings(*names, reason="card_declined", asks=("charge:x",)), stands)
    assert {step.act for step in found.steps} == set(RepairAction)
    words = [str(step) for step in found.steps]
    assert len(set(words)) == len(words) - len(SERVICES) + 1
    assert words[0] == "takes PaymentFailed again: its inbox knows it, but the effect is missing"
