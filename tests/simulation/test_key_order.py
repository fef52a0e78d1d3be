"""The simulator's eye for events that overtake each other."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from orderflow.core.inbox import InboxEntry, InboxState
from orderflow.core.store import Changes
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ProducerRecord, TopicSettings
from orderflow.simulation.log import TroubledLog
from orderflow.simulation.protocol import KeyOrder

FIRST, SECOND, OTHER = uuid4(), uuid4(), uuid4()


def committed(event: UUID, state: InboxState = InboxState.DONE) -> Changes:
    return Changes(consumer="order", inbox=[InboxEntry("key", str(event), event, state)])


def seen(*changes: Changes) -> list[str]:
    """What is found when the topics have the first, then the second, and another topic the other one."""
    log = TroubledLog(SystemClock(), random.Random(1), session_timeout_s=1.0)
    log.create([TopicSettings("a", 1), TopicSettings("b", 1)])
    for topic, event in (("a", FIRST), ("a", SECOND), ("b", OTHER), ("a", FIRST)):
        log.append([ProducerRecord(topic, b"key", b"", (("ce_id", str(event).encode()),))])
    order = KeyOrder()
    for change in changes:
        order.note([change])
    return list(order.broken(log))


def test_produced_order_is_good_order() -> None:
    assert seen(committed(FIRST), committed(OTHER), committed(SECOND)) == []


def test_between_topics_there_is_none() -> None:
    assert seen(committed(OTHER), committed(FIRST), committed(SECOND)) == []


def test_one_that_overtook_another_is_told() -> None:
    assert seen(committed(SECOND), committed(FIRST)) == [f"order handled {FIRST} of key (a/0@0) too late"]


def test_what_was_only_parked_has_overtaken_nothing() -> None:
    assert seen(committed(SECOND, InboxState.PARKED), committed(FIRST), committed(SECOND)) == []
