"""How relays share the slots of one outbox."""

from __future__ import annotations

SILENCE_S = 7.0
"""A relay that has asked nothing of its database for so long stands still: the others take its slots."""


def beat_s(silence_s: float) -> float:
    """How often a living relay says so at least: three beats may be late."""
    return silence_s / 4


def fair_share(slots: int, readers: int, rank: int) -> int:
    """How many slots the reader of this rank may own; over all ranks they add up to all slots."""
    return slots // readers + (1 if rank < slots % readers else 0)
