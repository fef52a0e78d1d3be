from __future__ import annotations

import threading

from msgspec.structs import replace

from orderflow.core.kafka.membership import MAX_BYTES, MAX_RECORDS, FetchBuffer
from orderflow.core.transport import ConsumerRecord

PLACE = ("topic", 0)


def records(first: int, count: int, partition: int = 0, size: int = 1) -> list[ConsumerRecord]:
    return [ConsumerRecord("topic", partition, offset, None, b"x" * size) for offset in range(first, first + count)]


def holding(*partitions: int) -> FetchBuffer:
    inbox = FetchBuffer()
    inbox.assign([("topic", partition) for partition in partitions])
    return inbox


def test_what_is_put_is_taken_in_order() -> None:
    inbox = holding(0)
    inbox.put(records(0, 5))
    assert [record.offset for record in inbox.take(3)] == [0, 1, 2]
    assert [record.offset for record in inbox.take(3)] == [3, 4]
    assert inbox.take(3) == []


def test_records_of_a_partition_that_is_not_held_are_dropped() -> None:
    inbox = holding(0)
    inbox.put([*records(0, 2), *records(0, 2, partition=1)])
    assert {record.partition for record in inbox.take(10)} == {0}


def test_only_what_was_taken_can_be_settled() -> None:
    inbox = holding(0)
    inbox.put(records(0, 5))
    inbox.settle(records(0, 5))
    assert inbox.to_commit() == {}
    inbox.settle(inbox.take(3))
    assert inbox.to_commit() == {PLACE: 3}
    assert inbox.to_commit() == {}


def test_settling_an_older_batch_does_not_go_back() -> None:
    inbox = holding(0)
    inbox.put(records(0, 5))
    older, newer = inbox.take(2), inbox.take(2)
    inbox.settle(newer)
    inbox.settle(older)
    assert inbox.to_commit() == {PLACE: 4}


def test_what_was_taken_before_a_partition_was_lost_settles_nothing_after_it_came_back() -> None:
    inbox = holding(0)
    inbox.put(records(0, 5))
    stale = inbox.take(5)
    inbox.drop_records(frozenset({PLACE}))
    inbox.release([PLACE])
    inbox.settle(stale)
    inbox.assign([PLACE])
    inbox.settle(stale)
    assert inbox.to_commit() == {}


def test_a_commit_that_failed_is_said_again_unless_a_newer_one_was() -> None:
    inbox = holding(0)
    inbox.put(records(0, 4))
    inbox.settle(inbox.take(2))
    offsets = inbox.to_commit()
    inbox.commit_failed(offsets)
    assert inbox.to_commit() == {PLACE: 2}
    inbox.settle(inbox.take(2))
    assert inbox.to_commit() == {PLACE: 4}
    inbox.commit_failed({PLACE: 2})
    assert inbox.to_commit() == {}


def test_it_is_full_by_number_and_by_size_and_has_room_when_half_is_taken() -> None:
    small = records(0, MAX_RECORDS)
    large = records(0, 8, size=MAX_BYTES // 8)
    headed = [replace(each, headers=(("", None),) * (MAX_BYTES // 8 // 64)) for each in records(0, 8)]
    for put, taken in ((small, MAX_RECORDS // 2), (large, 5), (headed, 5)):
        inbox = holding(0)
        inbox.put(put)
        assert inbox.is_full()
        assert not inbox.has_room()
        assert not inbox.wait_for_room(0)
        inbox.take(taken)
        assert inbox.has_room()
        assert not inbox.is_full()


def test_a_revoked_partition_waits_for_what_is_in_hand() -> None:
    inbox = holding(0)
    inbox.put(records(0, 2))
    taken = inbox.take(2)
    waiting = threading.Thread(target=inbox.wait_settled, args=([PLACE], 30.0))
    waiting.start()
    assert waiting.is_alive()
    inbox.settle(taken)
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_is_not_for_readers_is_settled_with_all_that_is_before_it() -> None:
    inbox = holding(0)
    inbox.put(records(0, 3))
    inbox.reach({PLACE: 5})
    taken = inbox.take(3)
    assert inbox.to_commit() == {}
    inbox.settle(taken[:2])
    assert inbox.to_commit() == {PLACE: 2}
    inbox.settle(taken)
    assert inbox.to_commit() == {PLACE: 5}
    inbox.reach({PLACE: 7})
    assert inbox.to_commit() == {PLACE: 7}
    inbox.put(records(7, 1))
    inbox.reach({PLACE: 8})
    assert inbox.to_commit() == {}
    inbox.settle(inbox.take(1))
    assert inbox.to_commit() == {PLACE: 8}


def test_what_was_fetched_and_dropped_is_not_passed_over() -> None:
    inbox = holding(0)
    inbox.put(records(0, 3))
    inbox.drop_records(frozenset({PLACE}))
    inbox.reach({PLACE: 3})
    assert inbox.to_commit() == {}


def test_a_partition_that_starts_again_is_committed_at_its_first_offset_at_once() -> None:
    inbox = holding(0)
    inbox.put(records(90, 3))
    inbox.assign([PLACE, ("topic", 1)], again={PLACE: 4})
    assert inbox.to_commit() == {PLACE: 4}
    inbox.commit_failed({PLACE: 4})
    assert inbox.to_commit() == {PLACE: 4}
    assert inbox.to_commit() == {}
