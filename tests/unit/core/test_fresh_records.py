from __future__ import annotations

from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core.postgres import outbox
from orderflow.core.postgres.outbox import FreshRecords
from orderflow.core.store import OutboxRecord

SLOTS = frozenset((0, 1))


def row(number: int, slot: int = 0, value: bytes | None = b"{}") -> OutboxRecord:
    return OutboxRecord(topic="t", key=b"k", value=value, headers=(), event_id=UUID(int=number), slot=slot, id=number)


def test_what_was_added_is_found_until_it_is_sent() -> None:
    fresh = FreshRecords()
    fresh.add([row(1), row(2, value=None)], SLOTS)
    assert fresh.found([1, 2, 3]) == {1: row(1), 2: row(2, value=None)}
    fresh.drop([1, 3])
    assert list(fresh.found([1, 2])) == [2]


def test_rows_of_other_relays_slots_are_not_kept() -> None:
    fresh = FreshRecords()
    fresh.add([row(1, slot=1), row(2, slot=2)], SLOTS)
    assert list(fresh.found([1, 2])) == [1]


def test_nothing_is_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FRESH_BYTES_MAX", 3 * outbox.OVERHEAD_BYTES)
    fresh = FreshRecords()
    for number in range(10):
        fresh.add([row(number, value=b"")], SLOTS)
        assert number in fresh.found([number])
    assert list(fresh.found(range(10))) == [9]


def test_room_comes_back_with_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FRESH_BYTES_MAX", 3 * outbox.OVERHEAD_BYTES)
    fresh = FreshRecords()
    fresh.add([row(0)], SLOTS)
    for number in range(1, 10):
        fresh.add([row(number)], SLOTS)
        fresh.drop([number])
    assert list(fresh.found(range(10))) == [0]


def test_headers_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FRESH_BYTES_MAX", 3 * outbox.OVERHEAD_BYTES)
    fresh = FreshRecords()
    fresh.add([replace(row(1), headers=(("x", bytes(2 * outbox.OVERHEAD_BYTES)),))], SLOTS)
    fresh.add([row(2)], SLOTS)
    assert list(fresh.found([1, 2])) == [2]
