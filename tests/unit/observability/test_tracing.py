"""Spans of signals: which are made, what they are parts of, and what becomes of them when nobody takes them."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core.dead_letters import topic_of
from orderflow.core.envelopes import from_answer, to_headers
from orderflow.core.identity import answer_id
from orderflow.core.inbox import Failure
from orderflow.core.messages import Answer, Command, Envelope, wire_name
from orderflow.core.service import Intent
from orderflow.core.store import OpenIntent, OutboxRecord
from orderflow.core.telemetry import (
    UNAVAILABLE,
    BatchCommitted,
    Handled,
    IntentAsked,
    Outcome,
    Relayed,
    Signal,
    Signals,
    SpansLost,
    SpansSent,
)
from orderflow.events.order import OrderFailed
from orderflow.http.application import accept_traceparent
from orderflow.observability.tracing import (
    LINKS_MAX,
    Names,
    OtlpReceiver,
    SpanSender,
    TraceSpan,
    Tracing,
    decision_span,
    event_span,
    letter_span,
    sampled,
)
from tests.support.otlp import receiving_traces
from tests.support.waiting import eventually

ORDER = "01a219b4-b91b-7869-839f-15c4265e383d"
CAUSE, EVENT = UUID(int=7), UUID(int=8)
TRACE, REQUEST_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{REQUEST_SPAN:016x}-01"
UNKEPT = f"{TRACEPARENT[:-2]}00"
NOW_NS = 1_700_000_000_000_000_000
NOW_MS = NOW_NS // 1_000_000
EMBEDDED = Names("postgresql")
FAILED = OrderFailed(order_id=UUID(ORDER), customer_id="Ada Lovelace", reason="no stock")


class Place(Command, frozen=True, kw_only=True):
    TYPE = "test.Place"


class Approved(Answer, frozen=True, kw_only=True):
    TYPE = "test.Approved"

    @property
    def key(self) -> str:
        return ORDER


def made(*signals: Signal, names: Names = EMBEDDED) -> list[TraceSpan]:
    """The spans of these signals, each emitted at NOW_NS."""
    spans: list[TraceSpan] = []
    tracing = Tracing(names, spans.append, random.Random(1), wall_ns=lambda: NOW_NS)
    for signal in signals:
        tracing(signal)
    return spans


def event(outcome: Outcome = Outcome.HANDLED, **changes: Any) -> Handled:
    told = Handled(
        outcome,
        ORDER,
        EVENT,
        wire_name(OrderFailed),
        FAILED,
        traceparent=TRACEPARENT,
        topic="order-events",
        partition=3,
        offset=41,
        source="/orderflow/order",
        appended_at=NOW_MS - 500,
    )
    return replace(told, **changes)


def batch(*handled: Handled, consumer: str = "payment") -> BatchCommitted:
    return BatchCommitted("payment", consumer, handled, 0.1)


def row(traceparent: str | None = TRACEPARENT, source: str = "/orderflow/order", **changes: Any) -> OutboxRecord:
    envelope = Envelope(
        id=EVENT, message=FAILED, source=source, key=ORDER, sequence=2, causation=CAUSE, traceparent=traceparent
    )
    record = OutboxRecord(
        topic="order-events",
        key=ORDER.encode(),
        value=b"{}",
        headers=to_headers(envelope),
        event_id=EVENT,
        slot=0,
        created_at=NOW_MS - 300,
    )
    return replace(record, **changes)


def relayed(*rows: OutboxRecord) -> Relayed:
    return Relayed("order", rows, 300, 0.1)


def test_an_event_has_waited_in_the_outbox_since_it_was_written_and_then_is_in_its_topic() -> None:
    waited, sent = made(relayed(row()))

    assert (waited.name, waited.start_ns, waited.end_ns) == (
        "wait in outbox",
        NOW_NS - 300_000_000,
        NOW_NS - 100_000_000,
    )
    assert (sent.name, sent.start_ns, sent.end_ns) == ("send order-events", NOW_NS - 300_000_000, NOW_NS)
    assert (sent.info.kind, sent.context, waited.parent) == (
        "producer",
        (TRACE, event_span(EVENT)),
        event_span(EVENT),
    )
    assert sent.parent == decision_span("order", CAUSE)


def test_a_consumer_has_waited_for_an_event_since_the_log_had_it() -> None:
    waited, processed = made(batch(event()))

    assert (waited.name, waited.start_ns, waited.end_ns) == (
        "wait in order-events",
        NOW_NS - 500_000_000,
        NOW_NS - 100_000_000,
    )
    assert (processed.name, processed.start_ns, processed.end_ns) == (
        "process order-events",
        NOW_NS - 100_000_000,
        NOW_NS,
    )
    assert waited.parent == processed.parent == event_span(EVENT)
    assert processed.context == (TRACE, decision_span("payment", EVENT))
    assert dict(processed.attributes) == {
        "messaging.system": "postgresql",
        "messaging.destination.name": "order-events",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "payment",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": str(EVENT),
        "messaging.message.conversation_id": ORDER,
        "cloudevents.event_type": "orderflow.OrderFailed.v1",
        "orderflow.outcome": "handled",
        "orderflow.offset": 41,
    }


def test_clocks_that_disagree_make_no_wait_negative() -> None:
    early = made(relayed(row(created_at=NOW_MS + 60_000)), batch(event(appended_at=NOW_MS + 60_000)))

    assert all(each.start_ns <= each.end_ns for each in early)


def test_on_kafka_topics_and_groups_have_the_names_that_they_have_there() -> None:
    spans = made(relayed(row()), batch(event()), names=Names("kafka", "shop1.", "group1."))

    assert [each.name for each in spans] == [
        "wait in outbox",
        "send shop1.order-events",
        "wait in shop1.order-events",
        "process shop1.order-events",
    ]
    assert spans[-1].attributes["messaging.consumer.group.name"] == "group1.payment"
    assert spans[-1].attributes["messaging.kafka.offset"] == 41


def test_the_bank_is_asked_by_the_decision_and_its_answer_comes_from_there() -> None:
    intent = OpenIntent(
        intent=Intent(key="charge:1", kind="charge", request={}), key=ORDER, cause=CAUSE, traceparent=TRACEPARENT
    )
    answered = from_answer(Approved(), intent, "/orderflow/payment").event_id
    asked = IntentAsked("payment", "charge:1", "charge", ORDER, "test.Approved", 1, 0.2, CAUSE, TRACEPARENT)
    answer = Handled(
        Outcome.HANDLED, ORDER, answered, "t", Approved(), traceparent=TRACEPARENT, source="/orderflow/payment"
    )

    call, handled = made(asked, batch(answer))

    assert (call.name, call.info.kind, call.parent) == ("ask charge", "client", decision_span("payment", CAUSE))
    assert (call.start_ns, call.error) == (NOW_NS - 200_000_000, "")
    assert (handled.name, handled.parent) == ("handle test.Approved", call.context[1])


def test_a_bank_that_is_away_is_an_error_and_nobodys_origin() -> None:
    away = IntentAsked("payment", "charge:1", "charge", ORDER, UNAVAILABLE, 1, 0.2, CAUSE, TRACEPARENT)

    (call,) = made(away)

    assert call.error == UNAVAILABLE
    assert call.context[1] != event_span(answer_id("charge:1", CAUSE, 0))


def test_a_command_is_part_of_its_request_and_an_event_of_a_stranger_of_what_its_trace_names() -> None:
    command = Handled(Outcome.HANDLED, ORDER, EVENT, "t", Place(), traceparent=TRACEPARENT, source="/orderflow/order")
    (handled,) = made(batch(command))
    strange = made(batch(event(source="https://shop.example")))

    assert (handled.name, handled.parent) == ("handle test.Place", REQUEST_SPAN)
    assert {each.parent for each in strange} == {REQUEST_SPAN}


def test_each_try_has_its_span_and_the_dead_letter_is_part_of_the_last() -> None:
    failure = Failure("unknown", "KeyError", "Ada Lovelace is missing", "f")
    parked = event(Outcome.PARKED, attempts=1, failure=failure)
    dead = event(Outcome.DEAD, attempts=6, failure=failure, appended_at=0)
    letter = row(topic=topic_of("order-events"), headers=(*row().headers, ("dlt_attempts", b"6")))

    spans = made(batch(parked), batch(dead), Relayed("payment", [letter], 0, 0.0))
    tries = [each for each in spans if each.name == "process order-events"]
    (published,) = (each for each in spans if each.name == "send order-events.DLT")

    assert [(each.error, each.attributes["orderflow.attempts"]) for each in tries] == [
        ("KeyError", 1),
        ("KeyError", 6),
    ]
    assert published.parent == tries[1].context[1] == letter_span("payment", EVENT, 6)
    assert published.context[1] != event_span(EVENT)
    assert len({each.context for each in spans}) == len(spans)
    assert "Ada" not in repr([each.attributes for each in spans])


def test_an_event_that_is_tried_again_has_not_been_in_its_topic_all_the_while() -> None:
    assert [each.name for each in made(batch(event(appended_at=0)))] == ["process order-events"]
    assert [each.name for each in made(batch(event(Outcome.DUPLICATE)))] == ["process order-events"]


def test_a_notice_comes_from_where_the_event_comes_from_that_it_is_about() -> None:
    _, sent = made(relayed(row(source="/orderflow/order/flow")))

    assert sent.parent == event_span(CAUSE)


@pytest.mark.parametrize("outcome", [Outcome.IGNORED, Outcome.DEFERRED])
def test_what_nothing_was_written_of_has_no_span(outcome: Outcome) -> None:
    assert made(batch(event(outcome))) == []


@pytest.mark.parametrize("traceparent", [None, UNKEPT, "", "00-zz-zz-01", f"00-{'0' * 32}-{'0' * 16}-01"])
def test_what_is_of_no_trace_or_of_one_that_is_not_kept_has_no_span(traceparent: str | None) -> None:
    asked = IntentAsked("payment", "charge:1", "charge", ORDER, "test.Approved", 1, 0.2, CAUSE, traceparent)

    assert made(batch(event(traceparent=traceparent)), relayed(row(traceparent)), asked) == []


def test_messages_of_one_batch_are_linked_with_it_and_it_with_them() -> None:
    many = LINKS_MAX + 2
    handled = [event(event_id=UUID(int=100 + number)) for number in range(many)]

    *parts, shared = made(batch(*handled, event(Outcome.IGNORED)))
    processed = [each for each in parts if each.name == "process order-events"]

    assert (shared.name, shared.parent, shared.attributes["messaging.batch.message_count"]) == (
        "process batch",
        0,
        many + 1,
    )
    assert shared.context[0] != TRACE
    assert shared.links == [each.context for each in processed[:LINKS_MAX]]
    assert {tuple(each.links) for each in processed} == {(shared.context,)}


def test_rows_of_one_append_are_linked_with_it() -> None:
    *_, shared = made(relayed(row(), row(UNKEPT), row(event_id=UUID(int=9))))

    assert (shared.name, shared.info.kind) == ("send batch", "client")
    assert shared.links == [(TRACE, event_span(EVENT)), (TRACE, event_span(UUID(int=9)))]


def requested(method: str, header: str | None, ratio: float = 1.0) -> tuple[str | None, list[TraceSpan]]:
    """The traceparent that goes on with such a request, if it has a span, and what is made of it."""
    spans: list[TraceSpan] = []
    tracing = Tracing(Names("kafka"), spans.append, random.Random(1), ratio=ratio, wall_ns=lambda: NOW_NS)
    given = None if header is None else header.encode()
    request = tracing.begin(method, given, accept_traceparent(given, random.Random(2)))
    if request is not None:
        tracing.end(request, "/orders", method, 503)
    return None if request is None else request.traceparent, spans


def test_a_request_is_part_of_its_callers_trace_and_what_it_causes_part_of_it() -> None:
    onward, (span,) = requested("GET", TRACEPARENT)

    assert (span.context, span.parent) == (sampled(onward), REQUEST_SPAN)
    assert span.context[0] == TRACE
    assert span.context[1] != REQUEST_SPAN
    assert (span.name, span.error, span.attributes["http.response.status_code"]) == ("GET /orders", "503", 503)


def test_a_trace_that_its_caller_does_not_keep_is_not_kept() -> None:
    onward, spans = requested("POST", UNKEPT)

    assert spans == []
    assert onward is not None
    assert onward.startswith(f"00-{TRACE:032x}-")
    assert onward.endswith("-00")


def test_a_request_that_only_reads_begins_no_trace() -> None:
    assert requested("GET", None) == (None, [])
    assert requested("POST", None)[1][0].parent == 0


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, "00"), (1.0, "01")])
def test_the_share_of_new_traces_that_is_kept(ratio: float, kept: str) -> None:
    onward, spans = requested("POST", None, ratio)

    assert onward is not None
    assert onward.endswith(kept)
    assert len(spans) == int(kept)


class Gate:
    """A receiver that answers when it is let, with the next of `answers`, at the end with ""."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.taken: list[int] = []
        self.open = threading.Event()

    def take(self, spans: Sequence[TraceSpan]) -> str:
        self.open.wait()
        self.taken.append(len(spans))
        return self.answers.pop(0) if self.answers else ""

    def close(self) -> None:
        self.open.set()


@asynccontextmanager
async def sending(gate: Gate, queue_max: int) -> AsyncIterator[tuple[SpanSender, list[Signal]]]:
    told: list[Signal] = []
    sender = SpanSender("order", gate, Signals([told.append]), queue_max=queue_max)
    sender.start()
    try:
        yield sender, told
    finally:
        await sender.close()


async def test_spans_that_find_no_room_are_dropped_and_counted_and_nobody_waits() -> None:
    (span,) = made(batch(event(appended_at=0)))
    gate = Gate()
    async with sending(gate, queue_max=3) as (sender, told):
        for _ in range(10):
            sender.take(span)
        gate.open.set()
        await eventually(lambda: sum(each.count for each in counts(told)) == 10)
        sender.take(span)
        await eventually(lambda: sum(each.count for each in counts(told)) == 11)
    lost = [each for each in counts(told) if isinstance(each, SpansLost)]
    sent = [each for each in counts(told) if isinstance(each, SpansSent)]

    # Three wait, and three more if the first have been taken to be sent.
    assert sum(each.count for each in lost) >= 4
    assert (lost[0].first, lost[0].error) == (True, "more than 3 wait")
    assert sum(each.lost for each in sent) == sum(each.count for each in lost)


def counts(told: Sequence[Signal]) -> list[SpansSent | SpansLost]:
    return [each for each in told if isinstance(each, SpansSent | SpansLost)]


async def test_a_receiver_that_takes_nothing_is_told_of_once_and_once_that_it_takes_them_again() -> None:
    (span,) = made(batch(event(appended_at=0)))
    gate = Gate("away", "away")
    gate.open.set()
    async with sending(gate, queue_max=100) as (sender, told):
        for number in range(3):
            sender.take(span)
            await eventually(lambda: len(told) == number + 1)  # noqa: B023

    assert told == [
        SpansLost("order", 1, "away", first=True),
        SpansLost("order", 1, "away", first=False),
        SpansSent("order", 1, 2),
    ]


async def test_at_the_end_what_waits_is_sent() -> None:
    (span,) = made(batch(event(appended_at=0)))
    gate = Gate()
    gate.open.set()
    async with sending(gate, queue_max=2000) as (sender, told):
        for _ in range(1000):
            sender.take(span)
    await eventually(lambda: sum(gate.taken) == 1000 and len(told) == len(gate.taken))

    assert {type(each) for each in told} == {SpansSent}


async def test_at_the_end_a_receiver_that_hangs_is_left_and_what_waits_for_it_is_lost() -> None:
    (span,) = made(batch(event(appended_at=0)))
    told: list[Signal] = []
    sender = SpanSender("order", Gate(), Signals([told.append]))
    sender.start()
    for _ in range(1000):
        sender.take(span)
    await sender.close(0.01)

    assert [each.error for each in told if isinstance(each, SpansLost)] == ["the process ends"]


async def test_a_receiver_of_otlp_gets_the_spans_and_what_it_refuses_is_told_with_the_reason() -> None:
    sent, processed = made(batch(event(Outcome.PARKED, failure=Failure("unknown", "KeyError", "Ada", "f"))))
    with receiving_traces() as there:
        receiver = OtlpReceiver(there.url, "payment", "1.2.3")
        assert await asyncio.to_thread(receiver.take, [sent, processed]) == ""
        there.status = 400
        refused = await asyncio.to_thread(receiver.take, [sent])
        receiver.close()

    wait, seen = there.spans
    assert (wait.kind, seen.kind, seen.service) == ("internal", "consumer", "payment")
    assert (int(seen.trace, 16), int(seen.id, 16), int(seen.parent, 16)) == (*processed.context, processed.parent)
    assert (seen.start, seen.end, seen.failed) == (processed.start_ns, processed.end_ns, True)
    assert seen.attributes == {**processed.attributes, "error.type": "KeyError"}
    assert "400" in refused


async def test_a_receiver_that_is_not_there_is_said_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    (span,) = made(batch(event(appended_at=0)))
    with receiving_traces() as there:
        url = there.url
    receiver = OtlpReceiver(url, "payment", "1.2.3")
    try:
        assert "Connection refused" in await asyncio.to_thread(receiver.take, [span])
    finally:
        receiver.close()


def test_without_a_receiver_nothing_of_opentelemetry_is_loaded() -> None:
    loaded = (
        "import sys, orderflow.runtime.process, orderflow.services.order.service\n"
        "found = [name for name in sys.modules if name.startswith('opentelemetry') or name == 'requests'"
        " or name == 'orderflow.observability.tracing']\n"
        "sys.exit(repr(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
