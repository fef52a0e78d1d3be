"""Paused records: each key's in order, and no partition committed past the first of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orderflow.core.consumer import PausedRecords
from orderflow.core.envelopes import Incoming, from_record
from orderflow.core.messages import Catalogue
from orderflow.core.telemetry import Usage
from orderflow.core.transport import ConsumerRecord, size_of


def record(partition: int, offset: int, key: str = "k", value: bytes = b"?") -> ConsumerRecord:
    return ConsumerRecord("t", partition, offset, key.encode(), value)


def incoming(partition: int, offset: int, key: str = "k", value: bytes = b"?") -> Incoming:
    return from_record(record(partition, offset, key, value), Catalogue(()))


def committed(paused: PausedRecords, *polled: ConsumerRecord) -> list[tuple[int, int]]:
    """(partition, offset) of what is to be committed."""
    return sorted((each.partition, each.offset) for each in paused.committable(polled))


def offsets(messages: Sequence[Incoming]) -> list[int]:
    return [each.record.offset for each in messages if each.record]


def test_with_nothing_paused_what_was_polled_is_committed_as_it_is() -> None:
    polled = [record(0, 1), record(0, 2)]

    assert PausedRecords().committable(polled) is polled


def test_how_many_are_paused_is_told() -> None:
    paused = PausedRecords()
    assert paused.usage == Usage(0, 2_000)
    paused.add(incoming(0, 5))
    paused.add(incoming(0, 7))

    assert paused.usage == Usage(2, 2_000)


def test_a_partition_is_committed_up_to_its_first_paused_record_and_the_others_to_their_end() -> None:
    paused = PausedRecords()
    paused.add(incoming(0, 5))
    paused.add(incoming(0, 7))

    assert committed(paused, *(record(0, n) for n in range(3, 9)), record(1, 4)) == [(0, 4), (1, 4)]
    assert committed(paused, record(0, 9)) == []


def test_a_partition_goes_on_to_the_next_paused_record_and_then_to_the_last_that_was_polled() -> None:
    paused = PausedRecords()
    first, second = incoming(0, 5), incoming(0, 7)
    paused.add(first)
    paused.add(second)
    committed(paused, *(record(0, n) for n in range(5, 12)))

    paused.remove(first)
    assert committed(paused) == [(0, 6)]
    paused.remove(second)
    assert committed(paused) == [(0, 11)]
    assert committed(paused, record(0, 12)) == [(0, 12)]


def test_what_is_delivered_again_is_kept_once() -> None:
    paused = PausedRecords()
    for _ in range(3):
        paused.add(incoming(0, 5))
        paused.add(incoming(0, 6))

    assert len(paused) == 2
    assert offsets(list(paused.queue("k"))) == [5, 6]


def test_a_key_that_was_put_off_comes_last_and_keeps_its_order() -> None:
    paused = PausedRecords()
    for n in range(6):
        paused.add(incoming(0, n, f"k{n % 3}"))
    paused.put_off("k0")

    assert [head.key for head in paused.heads()] == ["k1", "k2", "k0"]
    assert offsets(list(paused.queue("k0"))) == [0, 3]


def test_when_the_head_of_a_key_goes_the_next_one_comes_after_the_other_keys() -> None:
    paused = PausedRecords()
    four = [incoming(0, n, f"k{n % 2}") for n in range(4)]
    for each in four:
        paused.add(each)
    paused.remove(four[0])
    assert offsets(list(paused.heads())) == [1, 2]
    paused.remove(four[3])
    assert offsets(list(paused.heads())) == [1, 2]
    paused.remove(four[1])
    assert offsets(list(paused.heads())) == [2]
    assert list(paused.queue("k1")) == []


ONE = size_of(record(0, 0, value=b"x" * 99))


@pytest.mark.parametrize(("bound", "most"), [("RECORDS_MAX", 3), ("BYTES_MAX", 3 * ONE), ("BYTES_MAX", 2 * ONE + 1)])
def test_the_buffer_is_full_by_number_and_by_size(bound: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"orderflow.core.consumer.{bound}", most)
    paused = PausedRecords()
    each = [incoming(0, n, value=b"x" * 99) for n in range(3)]
    for message in each[:2]:
        paused.add(message)
    assert not paused.is_full

    paused.add(each[2])
    assert paused.is_full

    for message in each:
        paused.remove(message)
    assert not paused.is_full
    assert "k" not in paused


def test_a_partition_is_paused_while_anything_of_it_is() -> None:
    paused = PausedRecords()
    one = incoming(0, 5)
    paused.add(one)
    assert [paused.holds(("t", 0)), paused.holds(("t", 1)), paused.holds(("u", 0))] == [True, False, False]
    paused.remove(one)
    assert not paused.holds(("t", 0))


def test_what_comes_in_another_order_is_committed_up_to_the_lowest() -> None:
    paused = PausedRecords()
    for offset in (8, 5, 7):
        paused.add(incoming(0, offset))
    assert committed(paused, record(0, 9)) == [(0, 4)]


def test_what_is_paused_again_after_all_was_committed_is_committed_anew() -> None:
    paused = PausedRecords()
    one = incoming(0, 5)
    for _ in range(2):
        paused.add(one)
        assert committed(paused, record(0, 5)) == [(0, 4)]
        paused.remove(one)
        assert committed(paused) == [(0, 5)]
    assert committed(paused) == []


def test_nothing_else_goes_when_what_is_not_paused_is_removed() -> None:
    paused = PausedRecords()
    kept = [incoming(0, 5), incoming(0, 6)]
    for each in kept:
        paused.add(each)
    for stranger in (incoming(0, 7), incoming(0, 5, "other"), replace(kept[0], record=None)):
        paused.remove(stranger)
    assert (len(paused), offsets(list(paused.queue("k")))) == (2, [5, 6])


def test_when_one_behind_the_head_goes_the_head_stays_as_it_was() -> None:
    paused = PausedRecords()
    head, behind = (incoming(0, n) for n in range(2))
    for each in (head, behind):
        paused.add(each)
    paused.remove(behind)
    assert list(paused.heads()) == list(paused.queue("k")) == [head]


@pytest.mark.parametrize(("offset", "found"), [(0, []), (1, [(0, 0)])])
def test_before_the_first_record_of_a_partition_there_is_nothing_to_commit(
    offset: int, found: list[tuple[int, int]]
) -> None:
    paused = PausedRecords()
    paused.add(incoming(0, offset))
    assert committed(paused, record(0, offset)) == found
