"""What is in hand: each key's in order, and no partition settled past the first of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.deferrals import Deferrals
from orderflow.messaging.incoming import Incoming, from_record
from orderflow.messaging.transport import ConsumerRecord, size_of


def record(partition: int, offset: int, key: str = "k", value: bytes = b"?") -> ConsumerRecord:
    return ConsumerRecord("t", partition, offset, key.encode(), value)


def incoming(partition: int, offset: int, key: str = "k", value: bytes = b"?") -> Incoming:
    return from_record(record(partition, offset, key, value), Catalogue(()))


def settled(in_hand: Deferrals, *polled: ConsumerRecord) -> list[tuple[int, int]]:
    """(partition, offset) of what is to be settled."""
    return sorted((each.partition, each.offset) for each in in_hand.settleable(polled))


def offsets(messages: Sequence[Incoming]) -> list[int]:
    return [each.record.offset for each in messages if each.record]


def test_with_nothing_in_hand_what_was_polled_is_settled_as_it_is() -> None:
    polled = [record(0, 1), record(0, 2)]

    assert Deferrals().settleable(polled) is polled


def test_a_partition_is_settled_up_to_its_first_deferred_record_and_the_others_to_their_end() -> None:
    in_hand = Deferrals()
    in_hand.add(incoming(0, 5))
    in_hand.add(incoming(0, 7))

    assert settled(in_hand, *(record(0, n) for n in range(3, 9)), record(1, 4)) == [(0, 4), (1, 4)]
    assert settled(in_hand, record(0, 9)) == []


def test_a_partition_goes_on_to_the_next_deferred_record_and_then_to_the_last_that_was_polled() -> None:
    in_hand = Deferrals()
    first, second = incoming(0, 5), incoming(0, 7)
    in_hand.add(first)
    in_hand.add(second)
    settled(in_hand, *(record(0, n) for n in range(5, 12)))

    in_hand.remove(first)
    assert settled(in_hand) == [(0, 6)]
    in_hand.remove(second)
    assert settled(in_hand) == [(0, 11)]
    assert settled(in_hand, record(0, 12)) == [(0, 12)]


def test_what_is_delivered_again_is_kept_once() -> None:
    in_hand = Deferrals()
    for _ in range(3):
        in_hand.add(incoming(0, 5))
        in_hand.add(incoming(0, 6))

    assert len(in_hand) == 2
    assert offsets(list(in_hand.queue("k"))) == [5, 6]


def test_a_key_that_was_put_off_comes_last_and_keeps_its_order() -> None:
    in_hand = Deferrals()
    for n in range(6):
        in_hand.add(incoming(0, n, f"k{n % 3}"))
    in_hand.put_off("k0", failed=False)

    assert [head.key for head in in_hand.others()] == ["k1", "k2", "k0"]
    assert offsets(list(in_hand.queue("k0"))) == [0, 3]


def test_heads_that_failed_stand_apart_by_type_until_they_are_gone_and_the_next_of_their_key_has_not_failed() -> None:
    in_hand = Deferrals()
    first, second = (replace(incoming(0, n), event_type="t.Paid.v1") for n in range(2))
    for message in (first, second, incoming(0, 2, "other")):
        in_hand.add(message)

    in_hand.put_off("k", failed=True)
    assert in_hand.failed_types() == {"t.Paid.v1"}
    assert list(in_hand.failed("t.Paid.v1")) == [first]
    assert [head.key for head in in_hand.others()] == ["other"]

    in_hand.remove(first)
    assert in_hand.failed_types() == set()
    assert [head.key for head in in_hand.others()] == ["other", "k"]


ONE = size_of(record(0, 0, value=b"x" * 99))


@pytest.mark.parametrize(("bound", "most"), [("RECORDS_MAX", 3), ("BYTES_MAX", 3 * ONE), ("BYTES_MAX", 2 * ONE + 1)])
def test_the_hand_is_full_by_number_and_by_size(bound: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"orderflow.messaging.deferrals.{bound}", most)
    in_hand = Deferrals()
    each = [incoming(0, n, value=b"x" * 99) for n in range(3)]
    for message in each[:2]:
        in_hand.add(message)
    assert not in_hand.is_full

    in_hand.add(each[2])
    assert in_hand.is_full

    for message in each:
        in_hand.remove(message)
    assert not in_hand.is_full
    assert "k" not in in_hand


def test_a_partition_is_in_hand_while_anything_of_it_is() -> None:
    in_hand = Deferrals()
    one = incoming(0, 5)
    in_hand.add(one)
    assert [in_hand.holds("t", 0), in_hand.holds("t", 1), in_hand.holds("u", 0)] == [True, False, False]
    in_hand.remove(one)
    assert not in_hand.holds("t", 0)


def test_what_comes_in_another_order_is_settled_up_to_the_lowest() -> None:
    in_hand = Deferrals()
    for offset in (8, 5, 7):
        in_hand.add(incoming(0, offset))
    assert settled(in_hand, record(0, 9)) == [(0, 4)]


def test_what_is_deferred_again_after_all_was_settled_is_settled_anew() -> None:
    in_hand = Deferrals()
    one = incoming(0, 5)
    for _ in range(2):
        in_hand.add(one)
        assert settled(in_hand, record(0, 5)) == [(0, 4)]
        in_hand.remove(one)
        assert settled(in_hand) == [(0, 5)]
    assert settled(in_hand) == []


def test_nothing_else_goes_when_what_is_not_in_hand_is_removed() -> None:
    in_hand = Deferrals()
    kept = [incoming(0, 5), incoming(0, 6)]
    for each in kept:
        in_hand.add(each)
    for stranger in (incoming(0, 7), incoming(0, 5, "other"), replace(kept[0], record=None)):
        in_hand.remove(stranger)
    assert (len(in_hand), offsets(list(in_hand.queue("k")))) == (2, [5, 6])


def test_when_one_behind_the_head_goes_the_head_stays_as_it_was() -> None:
    in_hand = Deferrals()
    head, behind = (replace(incoming(0, n), event_type="t.Paid.v1") for n in range(2))
    for each in (head, behind):
        in_hand.add(each)
    in_hand.put_off("k", failed=True)
    in_hand.remove(behind)
    assert list(in_hand.failed("t.Paid.v1")) == [head]
    assert list(in_hand.queue("k")) == [head]
    assert list(in_hand.others()) == []


def test_a_head_that_failed_and_waits_for_room_then_stands_with_the_others_and_no_type_is_left_empty() -> None:
    in_hand = Deferrals()
    for key in ("a", "b"):
        in_hand.add(replace(incoming(0, ord(key), key), event_type="t.Paid.v1"))
        in_hand.put_off(key, failed=True)
    in_hand.put_off("a", failed=False)
    assert [[each.key for each in group] for group in (in_hand.others(), in_hand.failed("t.Paid.v1"))] == [
        ["a"],
        ["b"],
    ]
    in_hand.put_off("b", failed=False)
    assert in_hand.failed_types() == set()
    assert list(in_hand.queue("nobody")) == list(in_hand.failed("nothing")) == []
    assert "a" in in_hand


def test_a_key_stands_with_the_type_of_its_head_and_not_of_what_waits_behind() -> None:
    in_hand = Deferrals()
    in_hand.add(replace(incoming(0, 1), event_type="t.Paid.v1"))
    in_hand.add(replace(incoming(0, 2), event_type="t.Sent.v1"))
    in_hand.put_off("k", failed=True)
    assert in_hand.failed_types() == {"t.Paid.v1"}


@pytest.mark.parametrize(("offset", "found"), [(0, []), (1, [(0, 0)])])
def test_before_the_first_record_of_a_partition_there_is_nothing_to_settle(
    offset: int, found: list[tuple[int, int]]
) -> None:
    in_hand = Deferrals()
    in_hand.add(incoming(0, offset))
    assert settled(in_hand, record(0, offset)) == found
