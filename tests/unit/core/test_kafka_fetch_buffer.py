from __future__ import annotations

import threading

from msgspec.structs import replace

from orderflow.core.kafka.membership import MAX_BYTES, MAX_RECORDS, FetchBuffer
from orderflow.core.transport import ConsumerRecord

PLACE = ("topic", 0)


def records(first: int, count: int, partition: int = 0, size: int = 1) -> list[ConsumerRecord]:
    return [ConsumerRecord("topic", partition, offset, None, b"x" * size) for offset in range(first, first + count)]


def holding(*partitions: int) -> FetchBuffer:
    buffer = FetchBuffer()
    buffer.assign([("topic", partition) for partition in partitions])
    return buffer


def test_what_is_put_is_taken_in_order() -> None:
    buffer = holding(0)
    buffer.put(records(0, 5))
    assert [record.offset for record in buffer.take(3)] == [0, 1, 2]
    assert [record.offset for record in buffer.take(3)] == [3, 4]
    assert buffer.take(3) == []


def test_records_of_a_partition_that_is_not_held_are_dropped() -> None:
    buffer = holding(0)
    buffer.put([*records(0, 2), *records(0, 2, partition=1)])
    assert {record.partition for record in buffer.take(10)} == {0}


def test_only_what_was_taken_can_be_marked_done() -> None:
    buffer = holding(0)
    buffer.put(records(0, 5))
    buffer.mark_done(records(0, 5))
    assert buffer.to_commit() == {}
    buffer.mark_done(buffer.take(3))
    assert buffer.to_commit() == {PLACE: 3}
    assert buffer.to_commit() == {}


def test_settling_an_older_batch_does_not_go_back() -> None:
    buffer = holding(0)
    buffer.put(records(0, 5))
    older, newer = buffer.take(2), buffer.take(2)
    buffer.mark_done(newer)
    buffer.mark_done(older)
    assert buffer.to_commit() == {PLACE: 4}


def test_what_was_taken_before_a_partition_was_lost_marks_nothing_done_after_it_came_back() -> None:
    buffer = holding(0)
    buffer.put(records(0, 5))
    stale = buffer.take(5)
    buffer.drop_records(frozenset({PLACE}))
    buffer.release([PLACE])
    buffer.mark_done(stale)
    buffer.assign([PLACE])
    buffer.mark_done(stale)
    assert buffer.to_commit() == {}


def test_a_commit_that_failed_is_said_again_unless_a_newer_one_was() -> None:
    buffer = holding(0)
    buffer.put(records(0, 4))
    buffer.mark_done(buffer.take(2))
    offsets = buffer.to_commit()
    buffer.commit_failed(offsets)
    assert buffer.to_commit() == {PLACE: 2}
    buffer.mark_done(buffer.take(2))
    assert buffer.to_commit() == {PLACE: 4}
    buffer.commit_failed({PLACE: 2})
    assert buffer.to_commit() == {}


def test_it_is_full_by_number_and_by_size_and_has_room_when_half_is_taken() -> None:
    small = records(0, MAX_RECORDS)
    large = records(0, 8, size=MAX_BYTES // 8)
    headed = [replace(each, headers=(("", None),) * (MAX_BYTES // 8 // 64)) for each in records(0, 8)]
    for put, taken in ((small, MAX_RECORDS // 2), (large, 5), (headed, 5)):
        buffer = holding(0)
        buffer.put(put)
        assert buffer.is_full()
        assert not buffer.has_room()
        assert not buffer.wait_for_room(0)
        buffer.take(taken)
        assert buffer.has_room()
        assert not buffer.is_full()


def test_a_revoked_partition_waits_for_what_is_in_hand() -> None:
    buffer = holding(0)
    buffer.put(records(0, 2))
    taken = buffer.take(2)
    waiting = threading.Thread(target=buffer.wait_done, args=([PLACE], 30.0))
    waiting.start()
    assert waiting.is_alive()
    buffer.mark_done(taken)
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_is_not_for_readers_is_done_with_all_that_is_before_it() -> None:
    buffer = holding(0)
    buffer.put(records(0, 3))
    buffer.reach({PLACE: 5})
    taken = buffer.take(3)
    assert buffer.to_commit() == {}
    buffer.mark_done(taken[:2])
    assert buffer.to_commit() == {PLACE: 2}
    buffer.mark_done(taken)
    assert buffer.to_commit() == {PLACE: 5}
    buffer.reach({PLACE: 7})
    assert buffer.to_commit() == {PLACE: 7}
    buffer.put(records(7, 1))
    buffer.reach({PLACE: 8})
    assert buffer.to_commit() == {}
    buffer.mark_done(buffer.take(1))
    assert buffer.to_commit() == {PLACE: 8}


def test_what_was_fetched_and_dropped_is_not_passed_over() -> None:
    buffer = holding(0)
    buffer.put(records(0, 3))
    buffer.drop_records(frozenset({PLACE}))
    buffer.reach({PLACE: 3})
    assert buffer.to_commit() == {}


def test_a_partition_that_starts_again_is_committed_at_its_first_offset_at_once() -> None:
    buffer = holding(0)
    buffer.put(records(90, 3))
    buffer.assign([PLACE, ("topic", 1)], again={PLACE: 4})
    assert buffer.to_commit() == {PLACE: 4}
    buffer.commit_failed({PLACE: 4})
    assert buffer.to_commit() == {PLACE: 4}
    assert buffer.to_commit() == {}
