from __future__ import annotations

from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core import fresh_records
from orderflow.core.fresh_records import FRESH_MAX, OVERHEAD_BYTES, FreshRecords
from orderflow.core.store import OutboxRecord

SLOTS = frozenset((0, 1))


def row(number: int, slot: int = 0, value: bytes | None = b"{}") -> OutboxRecord:
    return OutboxRecord(topic="t", key=b"k", value=value, headers=(), event_id=UUID(int=number), slot=slot, id=number)


def test_what_was_added_is_found_until_it_is_sent() -> None:
    fresh = FreshRecords()
    fresh.add([row(1), row(2, value=None)], SLOTS, ())
    assert fresh.found([1, 2, 3]) == {1: row(1), 2: row(2, value=None)}
    fresh.drop([1, 3])
    assert list(fresh.found([1, 2])) == [2]


def test_rows_of_other_relays_slots_are_not_kept() -> None:
    fresh = FreshRecords()
    fresh.add([row(1, slot=1), row(2, slot=2)], SLOTS, ())
    assert list(fresh.found([1, 2])) == [1]


def test_nothing_is_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_records, "BYTES_MAX", 3 * OVERHEAD_BYTES)
    fresh = FreshRecords()
    for number in range(10):
        fresh.add([row(number, value=b"")], SLOTS, ())
        assert number in fresh.found([number])
    assert list(fresh.found(range(10))) == [9]


def test_room_comes_back_with_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_records, "BYTES_MAX", 3 * OVERHEAD_BYTES)
    fresh = FreshRecords()
    fresh.add([row(0)], SLOTS, ())
    for number in range(1, 10):
        fresh.add([row(number)], SLOTS, ())
        fresh.drop([number])
    assert list(fresh.found(range(10))) == [0]


def test_headers_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_records, "BYTES_MAX", 3 * OVERHEAD_BYTES)
    fresh = FreshRecords()
    fresh.add([replace(row(1), headers=(("x", bytes(2 * OVERHEAD_BYTES)),))], SLOTS, ())
    fresh.add([row(2)], SLOTS, ())
    assert list(fresh.found([1, 2])) == [2]


def looking() -> FreshRecords:
    """Of a relay that has found out what is unsent: nothing."""
    fresh = FreshRecords()
    fresh.before_read()
    return fresh


def test_what_this_process_has_committed_is_handed_on_once_and_by_id() -> None:
    fresh = looking()
    fresh.add([row(3)], SLOTS, ())
    fresh.add([row(1), row(2, slot=1)], SLOTS, ())
    assert fresh.take_fresh() == [row(1), row(2, slot=1), row(3)]
    assert fresh.take_fresh() == []


def test_rows_that_are_unsent_and_known_hold_nothing_up() -> None:
    fresh = looking()
    fresh.add([row(1)], SLOTS, ())
    assert fresh.take_fresh() == [row(1)]
    fresh.add([row(2)], SLOTS, [1])
    assert fresh.take_fresh() == [row(2)]


@pytest.mark.parametrize("before", [[1], None])
def test_behind_what_another_process_has_written_it_is_time_to_look_and_stays_so_until_somebody_does(
    before: list[int] | None,
) -> None:
    fresh = looking()
    fresh.add([row(2)], SLOTS, before)
    fresh.add([row(3)], SLOTS, [2])
    assert fresh.take_fresh() is None
    assert fresh.take_fresh() is None
    fresh.before_read()
    fresh.after_read({1, 2, 3})
    fresh.drop([1])
    fresh.add([row(4)], SLOTS, [2, 3])
    assert fresh.take_fresh() == [row(4)]


def test_what_a_look_has_found_is_not_handed_on_besides() -> None:
    fresh = looking()
    fresh.before_read()
    fresh.add([row(1), row(2)], SLOTS, ())
    fresh.after_read({1})
    assert fresh.take_fresh() == [row(2)]


def test_before_the_first_look_and_when_the_slots_have_changed_nothing_is_handed_on() -> None:
    fresh = FreshRecords()
    fresh.add([row(1)], SLOTS, ())
    assert fresh.take_fresh() is None
    fresh.before_read()
    fresh.clear()
    fresh.add([row(2)], SLOTS, ())
    assert fresh.take_fresh() is None


def test_rows_of_other_relays_slots_are_not_handed_on() -> None:
    fresh = looking()
    fresh.add([row(1, slot=2), row(2)], SLOTS, ())
    assert fresh.take_fresh() == [row(2)]


def test_more_than_a_batch_is_looked_for() -> None:
    fresh = looking()
    fresh.add([row(number) for number in range(FRESH_MAX + 1)], SLOTS, ())
    assert fresh.take_fresh() is None


def test_what_a_look_has_found_before_its_commit_was_heard_of_is_not_handed_on_either() -> None:
    fresh = looking()
    fresh.after_read({1})
    fresh.add([row(1), row(2)], SLOTS, ())
    assert fresh.take_fresh() == [row(2)]
