"""Names that must not change between releases, and ids ordered by time."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.identity import event_id, lock_id, slot_of, uuid7


def test_event_ids_are_the_same_for_ever() -> None:
    """A changed value here would make every stored event a stranger."""
    assert (
        str(event_id("/orderflow/order", "orderflow.OrderPlaced", "k", 1)) == "1cf266e8-5764-51f3-8c66-0f8d2bef19ac"
    )


def test_event_ids_differ_by_each_of_their_parts() -> None:
    ids = {event_id(s, t, k, n) for s in "ab" for t in "ab" for k in "ab" for n in (1, 2)}

    assert len(ids) == 16


@given(wall_ms=st.integers(0, 2**48 - 1), seed=st.integers())
def test_uuid7_has_its_version_its_variant_and_its_time(wall_ms: int, seed: int) -> None:
    made = uuid7(wall_ms, random.Random(seed))

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == wall_ms


@given(name=st.text())
def test_a_lock_is_a_signed_number_of_64_bits_for_any_text(name: str) -> None:
    assert -(2**63) <= lock_id(name) < 2**63


@given(key=st.none() | st.binary(), slots=st.integers(1, 64))
def test_a_slot_is_within_the_slots(key: bytes | None, slots: int) -> None:
    assert 0 <= slot_of(key, slots) < slots
