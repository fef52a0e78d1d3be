"""What the topics tell: gaps, repetitions, and the order within a key."""

from __future__ import annotations

from uuid import UUID, uuid5

from orderflow.chaos.judge import POISON, Observer
from orderflow.core.transport import ConsumerRecord

NAMES = UUID(int=1)
TOPIC = "order-events"


def event(offset: int, sequence: int, *, key: str = "A", name: str = "", partition: int = 0) -> ConsumerRecord:
    named = str(uuid5(NAMES, name or f"{key}-{sequence}")).encode()
    headers = (
        ("ce_id", named),
        ("ce_source", b"/orderflow/order"),
        ("ce_type", b"orderflow.OrderPlaced.v1"),
        ("ce_sequence", b"%d" % sequence),
    )
    return ConsumerRecord(TOPIC, partition, offset, key.encode(), b"{}", headers)


def verdicts(*pages: list[ConsumerRecord]) -> list[str]:
    observer = Observer()
    for page in pages:
        observer.take(page)
    return [trouble.verdict for trouble in observer.finish()]


def test_every_number_in_its_order_is_fine_whatever_lies_between() -> None:
    assert verdicts([event(0, 1), event(1, 1, key="B"), event(2, 2), event(3, 2, key="B"), event(4, 3)]) == []


def test_records_that_come_again_are_counted_and_fine() -> None:
    observer = Observer()
    observer.take([event(0, 1), event(1, 2), event(2, 1), event(3, 2), event(4, 3)])

    assert (observer.finish(), observer.records, observer.repeated) == ([], 5, 2)


def test_a_number_that_never_came_is_lost() -> None:
    assert verdicts([event(0, 1), event(1, 3)]) == ["lost"]


def test_a_later_number_before_an_earlier_one_is_reordered() -> None:
    assert verdicts([event(0, 1), event(1, 3), event(2, 2)]) == ["reordered"]


def test_two_events_of_one_number_are_doubled() -> None:
    assert verdicts([event(0, 1), event(1, 1, name="another")]) == ["doubled"]


def test_order_holds_within_a_partition() -> None:
    assert verdicts([event(0, 2)], [event(0, 1, partition=1)]) == []


def test_a_topic_that_is_made_again_begins_a_new_life() -> None:
    observer = Observer()
    observer.take([event(0, 1), event(1, 2), event(2, 3)])
    observer.begin_life(TOPIC)
    observer.take([event(0, 2), event(1, 3), event(2, 4)])

    assert (observer.finish(), observer.records) == ([], 6)


def test_it_knows_how_many_events_of_a_key_have_come() -> None:
    observer = Observer()
    observer.take([event(0, 1), event(1, 2), event(2, 2), event(3, 1, key="B")])

    assert [observer.events_of("order", key) for key in "ABC"] == [2, 1, 0]


def test_poison_tells_nothing() -> None:
    observer = Observer()
    observer.take([ConsumerRecord(TOPIC, 0, 0, POISON + b"-1", b"?", ())])

    assert (observer.finish(), observer.records) == ([], 1)
