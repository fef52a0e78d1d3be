"""What is expected next of an order, who owes it, and what holds it up, by the evidence alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace as replaced

from orderflow.core.identity import murmur2
from orderflow.core.inbox import Waits
from orderflow.core.operations.model import DeadLetter, Expired, OpenQuestion, ReceivedEvent, Trail, UnsentEvent
from orderflow.core.operations.repairing import Said
from orderflow.diagnosis.causes import CauseKind, Explanation, causes_of_silence, explain, late_after_s
from orderflow.diagnosis.evidence import (
    KeyEvidence,
    NoAnswerError,
    Observations,
    OrderEvidence,
    OrderStep,
    ServiceEvidence,
    UsualAge,
    ask_service,
    consumers_of,
    release_of,
    usual_ages,
)
from orderflow.http.operators.outages import OutageView
from orderflow.http.operators.queues import Backlog, Lag
from orderflow.registry import SAGA, service_of

ORDER = "01a219b4-b91b-7869-839f-15c4265e383d"
PLACED = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SOON, LATE = timedelta(milliseconds=50), timedelta(minutes=5)
CONSUMERS = consumers_of(map(service_of, SAGA))
TOPICS = {"OrderPlaced": "order-events", "PaymentSucceeded": "payment-status", "StockReserved": "inventory-status"}
READERS = {
    "OrderPlaced": ("payment",),
    "PaymentSucceeded": ("order", "inventory"),
    "StockReserved": ("order", "notification"),
}
SAYS = {"order": "OrderPlaced", "payment": "PaymentSucceeded", "inventory": "StockReserved"}


def event_id(name: str) -> str:
    return str(UUID(int=list(TOPICS).index(name) + 1, version=5))


def said(name: str) -> Said:
    return Said(
        type=f"orderflow.{name}.v1",
        topic=TOPICS[name],
        event_id=event_id(name),
        source="/orderflow/x",
        sequence=1,
        value="{}",
    )


def received(consumer: str, name: str, state: str = "done") -> ReceivedEvent:
    identity = f"orderflow.{name}"
    return ReceivedEvent(consumer=consumer, identity=identity, event_id=UUID(event_id(name)), state=state, at=PLACED)


def world(*happened: str, status: str = "PENDING", refund: str = "none") -> Observations:
    """`happened`: what was said, and handled by all its readers but the last one said."""
    order = OrderEvidence(
        id=ORDER,
        status=status,
        reason=None,
        refund=refund,
        created_at=PLACED,
        history=[OrderStep(version=1, status="PENDING", event="OrderPlaced", at=PLACED)],
    )
    keys: dict[str, KeyEvidence] = {}
    for service in SAGA:
        name = SAYS.get(service)
        done = [received(service, each) for each in happened[:-1] if service in READERS[each]]
        keys[service] = KeyEvidence(said=(said(name),) if name in happened else (), trail=Trail(received=done))
    services = {name: ServiceEvidence(name=name) for name in SAGA}
    return Observations(order_id=ORDER, order=order, services=services, keys=keys)


def with_service(evidence: Observations, name: str, **changes: Any) -> Observations:
    return replace(evidence, services={**evidence.services, name: replace(evidence.services[name], **changes)})


def with_key(evidence: Observations, name: str, **changes: Any) -> Observations:
    return replace(evidence, keys={**evidence.keys, name: replace(evidence.keys[name], **changes)})


def found(evidence: Observations, after: timedelta = LATE) -> Explanation:
    return explain(evidence, CONSUMERS, PLACED + after)


def first(evidence: Observations, after: timedelta = LATE) -> tuple[CauseKind, str]:
    cause = found(evidence, after).causes[0]
    return cause.kind, cause.service


def letter(consumer: str, name: str, state: Waits, **changes: Any) -> DeadLetter:
    values: dict[str, Any] = {
        "position": 1,
        "consumer": consumer,
        "key": ORDER,
        "event_id": UUID(event_id(name)),
        "event_type": f"orderflow.{name}.v1",
        "state": state,
        "attempts": 6,
        "replays": 0,
        "behind": 0,
        "edited": False,
        "kind": "decision",
        "error": "KeyError",
        "message": "no such thing",
        "fingerprint": "f",
        "topic": TOPICS[name],
        "partition": 0,
        "offset": 1,
        "parked_at": PLACED,
        "first_failed_at": PLACED,
        "last_failed_at": PLACED,
        "next_attempt_at": PLACED,
    }
    return DeadLetter(**{**values, **changes})


def outage(consumer: str, name: str) -> OutageView:
    return OutageView(
        consumer=consumer,
        event_type=f"orderflow.{name}.v1",
        state="outage",
        for_ms=1000,
        failing=9,
        tried=9,
        error="KeyError: no such thing",
        fingerprint="f",
        overruled=None,
    )


FAULT = "fault 3: hang at OrderPlaced with sku=A"
AT_PAYMENT = world("OrderPlaced")
AT_INVENTORY = with_key(
    world("OrderPlaced", "PaymentSucceeded", status="PAID"),
    "order",
    trail=Trail(received=[received("order", "PaymentSucceeded")]),
)
ASKED = OpenQuestion(key="charge:x", kind="charge", attempts=0, since=PLACED, due_at=PLACED)
PARTITION = (murmur2(ORDER.encode()) & 0x7FFFFFFF) % 6
LAG = [
    Lag(consumer="payment", topic="order-events", partition=n, committed=1, first=0, end=9, lag=8, expired=0)
    for n in range(6)
]
PAYMENT_DONE = Trail(received=[received("payment", "OrderPlaced")])


@pytest.mark.parametrize(
    ("evidence", "kind", "service"),
    [
        pytest.param(replace(AT_PAYMENT, order=None), None, "order", id="order-unknown"),
        pytest.param(
            with_service(replace(AT_PAYMENT, order=None), "order", away="nothing answers"),
            CauseKind.SERVICE_AWAY,
            "order",
            id="order-away",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", away="nothing answers"),
            CauseKind.SERVICE_AWAY,
            "payment",
            id="payment-away",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", away="no answer within 3 s", silent=True),
            CauseKind.SERVICE_SILENT,
            "payment",
            id="payment-frozen",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", away="nothing answers", last_words="the schema lacks payment 0003"),
            CauseKind.CANNOT_START,
            "payment",
            id="schema-behind",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", problems={"consumer payment": f"stalled: {FAULT}"}, faults=[FAULT]),
            CauseKind.FAULT,
            "payment",
            id="a-fault-that-is-seen",
        ),
        pytest.param(
            with_key(AT_PAYMENT, "payment", trail=Trail(received=[received("payment", "OrderPlaced", "discarded")])),
            CauseKind.DISCARDED,
            "payment",
            id="discarded",
        ),
        pytest.param(
            with_key(
                with_service(with_service(AT_PAYMENT, "payment", release="0.1.0"), "order", release="0.2.0"),
                "payment",
                letters=(letter("payment", "OrderPlaced", Waits.DEAD, error="UndecodableError"),),
            ),
            CauseKind.OLD_RELEASE,
            "payment",
            id="old-release",
        ),
        pytest.param(
            with_key(
                with_service(with_service(AT_PAYMENT, "payment", release="0.2.0"), "order", release="0.2.0"),
                "payment",
                letters=(letter("payment", "OrderPlaced", Waits.DEAD, error="UndecodableError"),),
            ),
            CauseKind.DEAD,
            "payment",
            id="cannot-be-read-by-its-own-release",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", alarms={"clock": "3600 s ahead"}),
            CauseKind.CLOCK,
            "payment",
            id="clock-off",
        ),
        pytest.param(
            with_service(AT_INVENTORY, "inventory", away="nothing answers"),
            CauseKind.SERVICE_AWAY,
            "inventory",
            id="inventory-away",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", problems={"database": "away"}),
            CauseKind.COMPONENT,
            "payment",
            id="database-away",
        ),
        pytest.param(
            with_key(AT_PAYMENT, "payment", letters=(letter("payment", "OrderPlaced", Waits.DEAD),)),
            CauseKind.DEAD,
            "payment",
            id="dead",
        ),
        pytest.param(
            with_key(AT_PAYMENT, "payment", letters=(letter("payment", "OrderPlaced", Waits.RETRYING),)),
            CauseKind.RETRYING,
            "payment",
            id="retrying",
        ),
        pytest.param(
            with_key(AT_INVENTORY, "inventory", letters=(letter("inventory", "OrderPlaced", Waits.DEAD),)),
            CauseKind.HELD,
            "inventory",
            id="held-behind-another",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", outages=(outage("payment", "OrderPlaced"),)),
            CauseKind.OUTAGE,
            "payment",
            id="outage",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", faults=("KeyError at OrderPlaced",)),
            CauseKind.FAULT,
            "payment",
            id="game-day",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", expired=(Expired("payment", "order-events", 0, 1, 5),)),
            CauseKind.EXPIRED,
            "payment",
            id="expired",
        ),
        pytest.param(
            with_key(
                with_service(AT_PAYMENT, "order", backlog=Backlog(unsent=7, oldest_ms=9000)),
                "order",
                trail=Trail(
                    unsent=[UnsentEvent(topic="order-events", event_id=UUID(event_id("OrderPlaced")), since=PLACED)]
                ),
            ),
            CauseKind.UNSENT,
            "order",
            id="not-published",
        ),
        pytest.param(with_service(AT_PAYMENT, "payment", lag=LAG), CauseKind.BEHIND, "payment", id="behind"),
        pytest.param(
            with_service(AT_PAYMENT, "payment", lag=[replaced(each, held=2) for each in LAG]),
            CauseKind.TRANSACTION,
            "payment",
            id="behind-a-hanging-transaction",
        ),
        pytest.param(
            with_service(AT_PAYMENT, "payment", lag=[replaced(each, lag=0) for each in LAG]),
            CauseKind.LOST,
            "payment",
            id="read-all-and-not-there",
        ),
        pytest.param(
            with_key(AT_PAYMENT, "payment", trail=Trail(received=PAYMENT_DONE.received, asked=[ASKED])),
            CauseKind.BANK_SLOW,
            "payment",
            id="bank-slow",
        ),
        pytest.param(
            with_key(
                AT_PAYMENT,
                "payment",
                trail=Trail(
                    received=PAYMENT_DONE.received,
                    asked=[OpenQuestion(key="c", kind="charge", attempts=3, since=PLACED, due_at=PLACED)],
                ),
            ),
            CauseKind.BANK_UNKNOWN,
            "payment",
            id="bank-unknown",
        ),
        pytest.param(
            with_key(AT_PAYMENT, "payment", trail=PAYMENT_DONE), CauseKind.NOTHING_OWED, "order", id="an-event-lost"
        ),
        pytest.param(
            with_key(world("OrderPlaced", status="FAILED", refund="refused"), "payment", trail=PAYMENT_DONE),
            CauseKind.REFUND_REFUSED,
            "payment",
            id="refund-refused",
        ),
    ],
)
def test_the_first_cause_is_the_one_that_holds_it_up(
    evidence: Observations, kind: CauseKind | None, service: str
) -> None:
    if kind is None:
        assert found(evidence).owner == service
    else:
        assert first(evidence) == (kind, service)


def test_an_order_on_its_way_has_a_next_step_and_no_cause() -> None:
    explained = found(with_service(AT_PAYMENT, "payment", lag=LAG), after=SOON)

    assert (explained.expected, explained.owner) == ("the payment service to handle OrderPlaced", "payment")
    assert not explained.is_late
    assert explained.causes == []


def test_of_an_order_that_has_ended_nothing_is_expected() -> None:
    ended = world("OrderPlaced", "PaymentSucceeded", "StockReserved", status="COMPLETED")
    for name in ("order", "notification"):
        ended = with_key(
            ended, name, trail=Trail(received=[received(name, each) for each in TOPICS if name in READERS[each]])
        )

    assert (found(ended).expected, found(ended).causes) == ("", [])


def test_an_ended_order_is_not_held_up_by_a_service_that_is_away_now() -> None:
    ended = world("OrderPlaced", "PaymentSucceeded", "StockReserved", status="COMPLETED")
    for name in ("order", "notification"):
        ended = with_key(ended, name, trail=Trail(received=[received(name, each) for each in TOPICS]))

    assert found(with_service(ended, "inventory", away="nothing answers")).causes == []


def test_whether_the_customer_was_told_of_the_end_only_that_service_knows() -> None:
    ended = world("OrderPlaced", "PaymentSucceeded", "StockReserved", status="COMPLETED")
    ended = with_key(ended, "order", trail=Trail(received=[received("order", each) for each in TOPICS]))

    assert first(with_service(ended, "notification", away="nothing answers")) == (
        CauseKind.SERVICE_AWAY,
        "notification",
    )


def test_of_a_database_that_is_away_all_parts_complain_and_it_is_named_first() -> None:
    problems = {"consumer payment": "waits", "faults": "wait", "database": "away"}

    assert found(with_service(AT_PAYMENT, "payment", problems=problems)).causes[0].component == "database"
    assert [each.component for each in found(with_service(AT_PAYMENT, "payment", problems=problems)).causes[1:]] == [
        "consumer payment",
        "faults",
    ]


def test_a_transaction_that_hangs_comes_before_the_consumer_that_stands_still_for_it() -> None:
    held = [replaced(each, held=2) for each in LAG]
    stalled = with_service(AT_PAYMENT, "payment", lag=held, problems={"consumer payment": "stalled"})

    assert [each.kind for each in found(stalled).causes[:2]] == [CauseKind.TRANSACTION, CauseKind.COMPONENT]
    assert found(with_service(AT_PAYMENT, "payment", lag=held), after=SOON).causes == []


@pytest.mark.parametrize("behind", [0, 8])
def test_an_event_that_has_come_and_was_given_up_is_neither_lost_nor_still_to_be_read(behind: int) -> None:
    evidence = with_key(
        with_service(AT_PAYMENT, "payment", lag=[replaced(each, lag=behind) for each in LAG]),
        "payment",
        letters=(letter("payment", "OrderPlaced", Waits.DEAD),),
        trail=Trail(received=[received("payment", "OrderPlaced", "dead")]),
    )

    assert [cause.kind for cause in found(evidence).causes] == [CauseKind.DEAD]


def test_a_migration_that_is_missing_is_helped_by_migrating() -> None:
    behind = "the schema lacks payment 0003 refused_refunds: run `orderflow migrate`"
    gone = ServiceEvidence(name="payment", away="nothing answers", last_words=behind)

    assert [each.command for each in causes_of_silence(gone)] == ["orderflow migrate"]


def test_who_does_not_answer_for_the_log_has_a_problem_with_it_before_noticing() -> None:
    def ask(service: str, path: str) -> Any:
        if path == "/health/ready":
            return {"ready": True, "problems": {}}
        if path == "/ops/lag":
            raise NoAnswerError("no answer within 3 s", silent=True)
        return {"/ops/outbox": None, "/ops/outages": {"outages": []}, "/metrics": ""}.get(path, [])

    assert ask_service(ask, "order").problems == {"transport": "no answer within 3 s"}


def test_what_an_outage_has_held_up_does_not_make_the_next_orders_wait_as_long() -> None:
    assert late_after_s(None) == 5.0
    assert late_after_s(UsualAge(0.1, 0.25)) == 1.0
    assert late_after_s(UsualAge(1.0, 10.0)) == 20.0
    assert late_after_s(UsualAge(0.05, 3600.0)) == 5.0


def test_ages_that_a_clock_tells_wrong_are_not_what_is_usual() -> None:
    usual = {("payment", "orderflow.OrderPlaced.v1"): UsualAge(3600.0, 3600.0)}

    assert found(with_service(AT_PAYMENT, "payment", usual=usual)).usual_s == 3600.0
    assert found(with_service(AT_PAYMENT, "payment", usual=usual, alarms={"clock": "off"})).usual_s is None


def test_the_release_is_read_from_a_scrape() -> None:
    scrape = (
        "# TYPE orderflow_build_info gauge\n"
        'orderflow_build_info{service="payment",version="0.2.0",python="3.11.7"} 1\n'
    )

    assert release_of(scrape) == "0.2.0"
    assert release_of("") == ""


def test_the_timeline_calls_a_notice_and_an_answer_of_the_bank_what_they_are() -> None:
    notice = ReceivedEvent(
        consumer="order.flow", identity=str(UUID(int=7)), event_id=UUID(int=7), state="done", at=PLACED
    )
    answer = ReceivedEvent(
        consumer="payment", identity=str(UUID(int=8)), event_id=UUID(int=8), state="done", at=PLACED
    )
    told = with_key(AT_PAYMENT, "order", trail=Trail(received=[notice]))
    told = with_key(told, "payment", trail=Trail(received=[answer]))

    assert {mark.what for mark in found(told).timeline} == {
        "PENDING, by OrderPlaced",
        "order.flow handled: a notice from elsewhere",
        "payment handled: the bank's answer",
    }


def test_what_the_order_needs_comes_before_what_the_customer_is_told() -> None:
    reserved = world("OrderPlaced", "PaymentSucceeded", "StockReserved", status="PAID")

    assert found(reserved).owner == "order"


def test_late_is_what_is_later_than_orders_usually_are() -> None:
    usual = {("payment", "orderflow.OrderPlaced.v1"): UsualAge(60.0, 600.0)}
    slow = with_service(AT_PAYMENT, "payment", lag=LAG, usual=usual)

    assert not found(slow, after=timedelta(minutes=15)).is_late
    assert found(slow, after=timedelta(minutes=21)).is_late
    assert found(slow).usual_s == 600.0


def test_the_timeline_is_in_the_order_of_time() -> None:
    later = PLACED + timedelta(seconds=3)
    failed = letter("payment", "OrderPlaced", Waits.DEAD, last_failed_at=later)
    marks = found(with_key(AT_PAYMENT, "payment", letters=(failed,))).timeline

    assert [mark.at for mark in marks] == sorted(mark.at for mark in marks)
    assert marks[-1].what == "payment gave up (try 6): OrderPlaced: KeyError: no such thing"


def test_usual_ages_are_read_from_a_scrape() -> None:
    name = 'orderflow_handled_age_seconds_bucket{consumer="payment",event_type="orderflow.OrderPlaced.v1",le='
    counts = {"0.1": 60, "1.0": 98, "5.0": 99, "+Inf": 100}
    lines = [f'{name}"{bound}"}} {count}' for bound, count in counts.items()]
    scrape = "\n".join(["# TYPE orderflow_handled_age_seconds histogram", *lines, ""])

    assert usual_ages(scrape) == {("payment", "orderflow.OrderPlaced.v1"): (0.1, 5.0)}
