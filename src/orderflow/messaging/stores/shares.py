"""How relays share the slots of one outbox."""

from __future__ import annotations


def fair_share(slots: int, readers: int, rank: int) -> int:
    """How many slots the reader of this rank may own; over all ranks they add up to all slots."""
    return slots // readers + (1 if rank < slots % readers else 0)
