"""Dead letters are told to a webhook: signed, grouped, again until it is taken, and never in the way."""

from __future__ import annotations

import hmac
import random
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from orderflow.core.inbox import Failure
from orderflow.core.retry import Backoff
from orderflow.core.telemetry import AlarmRaised, Alerted, BatchCommitted, Handled, Outcome, Signal, Signals
from orderflow.core.timing import SystemClock
from orderflow.runtime.alerts import POSTS_MAX, Alerts, NotTakenError, Webhook, signed
from tests.support.receiver import Message, Receiver, receiving
from tests.support.waiting import eventually

KEY = b"a key of twenty-four bytes"
CLOCK = SystemClock()


class Flow:
    """What a service's engine would emit, and what was said of it."""

    def __init__(self) -> None:
        self.seen: list[Alerted] = []
        self.signals = Signals([self._keep])

    def _keep(self, signal: Signal) -> None:
        if isinstance(signal, Alerted):
            self.seen.append(signal)

    def batch(self, *handled: Handled) -> None:
        self.signals.emit(BatchCommitted("payment", "payment", handled, 0.01))

    def ends(self) -> list[tuple[str, str, int]]:
        return [(each.outcome.value, each.error, each.count) for each in self.seen]


def dead(fingerprint: str = "f1", number: int = 1) -> Handled:
    return Handled(
        outcome=Outcome.DEAD,
        key=f"order {number}",
        event_id=UUID(int=number),
        event_type="orderflow.OrderPlaced.v1",
        topic="order-events",
        attempts=6,
        failure=Failure("unknown", "Boom", f"message {number}", fingerprint),
    )


@asynccontextmanager
async def alerting(
    flow: Flow,
    url: str,
    *,
    key: bytes | None = KEY,
    every_s: float = 60.0,
    gap_s: float = 0.001,
    busy_gap_s: float = 0.001,
    kinds_max: int = 10,
    stop_s: float = 60.0,
) -> AsyncIterator[Alerts]:
    alerts = Alerts(
        Webhook(url, key, CLOCK),
        flow.signals,
        CLOCK,
        random.Random(1),
        backoff=Backoff(1, 2),
        every_s=every_s,
        gap_s=gap_s,
        busy_gap_s=busy_gap_s,
        kinds_max=kinds_max,
    )
    flow.signals.subscribe(alerts)
    alerts.start()
    try:
        yield alerts
    finally:
        await alerts.close(stop_s)


def data_of(message: Message) -> dict[str, Any]:
    body = msgspec.json.decode(message.body)
    assert isinstance(body, dict)
    found = body["data"]
    assert isinstance(found, dict)
    return found


async def taken(receiver: Receiver, count: int) -> None:
    await eventually(lambda: len(receiver.messages) >= count)


def test_the_signature_is_that_of_the_reference_libraries_test() -> None:
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', key)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_dead_letter_is_told_at_once_with_a_signature_over_id_time_and_body() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url):
        flow.batch(dead(number=7), Handled(Outcome.HANDLED, "k", UUID(int=1), "t"))
        await taken(receiver, 1)
        await eventually(lambda: flow.ends() == [("sent", "", 1)])

    [message] = receiver.messages
    body = msgspec.json.decode(message.body)
    said_at = datetime.fromisoformat(body["timestamp"])
    assert abs(said_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert body == {
        "type": "orderflow.dead_letter",
        "timestamp": body["timestamp"],
        "data": {
            "service": "payment",
            "consumer": "payment",
            "fingerprint": "f1",
            "error": "Boom",
            "message": "message 7",
            "count": 1,
            "event_id": str(UUID(int=7)),
            "key": "order 7",
            "event_type": "orderflow.OrderPlaced.v1",
            "topic": "order-events",
        },
    }
    headers = message.headers
    assert abs(int(headers["webhook-timestamp"]) - CLOCK.wall_ms() / 1000) < 60
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + message.body
    assert headers["webhook-signature"] == f"v1,{b64encode(hmac.digest(KEY, content, 'sha256')).decode()}"
    assert headers["content-type"] == "application/json"


async def test_an_alarm_is_told_in_a_message_of_its_own_type() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url):
        flow.signals.emit(AlarmRaised("payment", "refunds", "1 refund refused"))
        flow.batch(dead())
        await taken(receiver, 2)
        await eventually(lambda: len(flow.seen) == 2)

    bodies = {body["type"]: body["data"] for body in (msgspec.json.decode(each.body) for each in receiver.messages)}
    assert bodies["orderflow.alarm"] == {"service": "payment", "alarm": "refunds", "message": "1 refund refused"}
    assert bodies["orderflow.dead_letter"]["fingerprint"] == "f1"


async def test_an_alarm_that_changes_while_it_waits_is_told_as_it_stands() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, every_s=0.3):
        for count in range(1, 5):
            flow.signals.emit(AlarmRaised("payment", "refunds", f"{count} refunds refused"))
            await taken(receiver, 1)
        await taken(receiver, 2)

    assert [data_of(each)["message"] for each in receiver.messages] == ["1 refunds refused", "4 refunds refused"]


async def test_without_a_key_it_is_told_unsigned() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, key=None):
        flow.batch(dead())
        await taken(receiver, 1)
    assert "webhook-signature" not in receiver.messages[0].headers


async def test_letters_that_fail_alike_are_one_message_with_a_count_and_another_kind_is_another() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, every_s=0.3):
        started = CLOCK.monotonic()
        flow.batch(dead(number=1), dead(number=2), dead("f2", 3))
        await taken(receiver, 2)
        for number in range(4, 9):
            flow.batch(dead(number=number))
        await taken(receiver, 3)
        assert CLOCK.monotonic() - started >= 0.3

    said = {(each["fingerprint"], each["key"], each["count"]) for each in map(data_of, receiver.messages)}
    assert said == {("f1", "order 1", 2), ("f2", "order 3", 1), ("f1", "order 4", 5)}


@pytest.mark.parametrize("answer", ["500 Broken", "503 Away\r\nretry-after: 0", "429 Slowly", "408 Late"])
async def test_a_receiver_that_cannot_take_it_now_gets_the_same_message_again(answer: str) -> None:
    flow = Flow()
    async with receiving(answer, answer) as receiver, alerting(flow, receiver.url):
        flow.batch(dead())
        await eventually(lambda: len(flow.seen) == 3)

    status = f"HTTP {answer[:3]}"
    assert flow.ends() == [("retried", status, 1), ("retried", status, 1), ("sent", "", 1)]
    assert len({(each.headers["webhook-id"], each.body) for each in receiver.messages}) == 1


@pytest.mark.parametrize("in_words", [False, True])
async def test_a_receiver_that_says_when_is_not_asked_before(in_words: bool) -> None:
    flow = Flow()
    started = datetime.now(UTC)
    after = format_datetime(started + timedelta(seconds=2), usegmt=True) if in_words else "1"
    async with receiving(f"429 Slowly\r\nretry-after: {after}") as receiver, alerting(flow, receiver.url):
        flow.batch(dead())
        await taken(receiver, 2)
        assert datetime.now(UTC) - started >= timedelta(seconds=1)


@pytest.mark.parametrize("answer", ["404 Not Found", "401 Unauthorized", "302 Found\r\nlocation: /other"])
async def test_a_receiver_that_refuses_is_not_asked_again(answer: str) -> None:
    flow = Flow()
    async with receiving(answer) as receiver, alerting(flow, receiver.url):
        flow.batch(dead())
        await eventually(lambda: flow.seen)

    assert flow.ends() == [("failed", f"HTTP {answer[:3]}", 1)]
    assert len(receiver.messages) == 1


async def test_a_receiver_that_is_away_holds_nothing_up_and_what_is_too_much_is_dropped_and_counted() -> None:
    flow = Flow()
    async with alerting(flow, "http://127.0.0.1:9/hook", kinds_max=5, stop_s=0.2):
        for number in range(200):
            flow.batch(dead(f"f{number}", number))
        assert set(outcomes(flow)) == {"dropped"}, "none was asked of the receiver yet"
        await eventually(lambda: "retried" in {outcome for outcome, _, _ in flow.ends()})

    assert [outcome for outcome in outcomes(flow) if outcome != "retried"] == ["dropped"] * 200
    assert {error for outcome, error, _ in flow.ends() if outcome == "retried"} == {"ConnectError"}


async def test_a_receiver_that_never_answers_does_not_hold_up_the_end() -> None:
    flow = Flow()
    async with receiving("") as receiver, alerting(flow, receiver.url, stop_s=0.2):
        flow.batch(dead())
        await taken(receiver, 1)
        flow.batch(dead("f2"))
        await sent(flow, 1)

    assert sorted(flow.ends()) == [("dropped", "the process ends", 1), ("sent", "", 1)]


async def test_at_the_end_what_waits_for_its_minute_is_told() -> None:
    flow = Flow()
    async with receiving() as receiver:
        async with alerting(flow, receiver.url):
            flow.batch(dead())
            await eventually(lambda: flow.seen)
            flow.batch(dead(), dead())
        assert [each["count"] for each in map(data_of, receiver.messages)] == [1, 2]


REFUSALS = [
    "500 Broken",
    "503 Away\r\nretry-after: 3600",
    "429 Slowly\r\nretry-after: 3600",
    "408 Late",
    "",
    "404 No",
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_an_alert_that_is_refused_holds_up_no_other(refusal: str) -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, stop_s=0.2):
        receiver.refused, receiver.refusal = b'"poison"', refusal
        flow.batch(dead("poison"))
        await taken(receiver, 1)
        for number in range(6):
            flow.batch(dead(f"f{number}", number))
            await sent(flow, number + 1)
        asked = [data_of(each)["fingerprint"] for each in receiver.messages]

    assert [each for each in asked if each != "poison"] == [f"f{number}" for number in range(6)]
    if "retry-after" in refusal:
        assert asked.count("poison") == 1


async def test_however_many_get_no_answer_a_place_is_left_to_the_others() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, stop_s=0.2, kinds_max=50):
        receiver.refused, receiver.refusal = b'"poison', "500 Broken"
        flow.batch(*(dead(f"poison {number}") for number in range(20)))
        await eventually(lambda: len({each.fingerprint for each in flow.seen}) == 20)
        answered, receiver.refusal = len(receiver.messages), ""
        await taken(receiver, answered + POSTS_MAX - 1)
        flow.batch(dead("fine"))
        await sent(flow, 1)


async def test_a_busy_receiver_is_asked_at_a_bounded_rate_however_many_kinds_there_are() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, busy_gap_s=0.1, stop_s=0.1, kinds_max=100):
        receiver.refused, receiver.refusal = b"", "503 Away\r\nretry-after: 3600"
        started = CLOCK.monotonic()
        flow.batch(*(dead(f"f{number}", number) for number in range(100)))
        await taken(receiver, POSTS_MAX + 5)
        assert CLOCK.monotonic() - started >= 4 * 0.1
        asked = [data_of(each)["fingerprint"] for each in receiver.messages]
    assert len(set(asked)) == len(asked), "each of them was told to come later"


async def test_what_is_refused_and_what_waits_are_bounded_together() -> None:
    flow = Flow()
    async with receiving() as receiver, alerting(flow, receiver.url, kinds_max=7, stop_s=0.5):
        receiver.refused, receiver.refusal = b"", "500 Broken"
        for number in range(30):
            flow.batch(dead(f"f{number}", number))
            await taken(receiver, min(number + 1, 4))
        assert outcomes(flow).count("dropped") == 30 - 7
    assert outcomes(flow).count("dropped") == 30


@pytest.mark.parametrize(("said", "after_s"), [("3600", 600.0), ("30", 30.0), ("9" * 30, 600.0), ("soon", 0.0)])
async def test_a_receiver_that_wants_to_wait_for_hours_is_asked_before(said: str, after_s: float) -> None:
    async with receiving(f"429 Slowly\r\nretry-after: {said}") as receiver:
        webhook = Webhook(receiver.url, None, CLOCK)
        with pytest.raises(NotTakenError) as refused:
            await webhook.post("msg_1", b"{}")
        await webhook.close()
    assert (refused.value.after_s, refused.value.busy) == (after_s, after_s > 0)


async def sent(flow: Flow, count: int) -> None:
    await eventually(lambda: outcomes(flow).count("sent") >= count)


def outcomes(flow: Flow) -> list[str]:
    return [each.outcome.value for each in flow.seen]
