"""How relays share slots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.store import fair_share


@given(slots=st.integers(1, 1024), readers=st.integers(1, 50))
def test_shares_add_up_to_all_slots_and_differ_by_one_at_most(slots: int, readers: int) -> None:
    shares = [fair_share(slots, readers, rank) for rank in range(readers)]
    assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1
