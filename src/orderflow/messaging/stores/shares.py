"""How relays share the slots of one outbox."""

from __future__ import annotations

SILENCE_S = 7.0
"""A relay that has asked nothing of its database for so long stands still: the others take its slots."""


def beat_s(silence_s: float) -> float:
    """How long a living relay is silent at most; its word may come later by more than that before it is fenced."""
    return silence_s * 3 / 8


def fair_share(slots: int, readers: int, rank: int) -> int:
    """How many slots the reader of this rank may own; over all ranks they add up to all slots."""
    return slots // readers + (1 if rank < slots % readers else 0)
