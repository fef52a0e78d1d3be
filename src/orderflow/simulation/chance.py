"""Chance that a seed decides."""

from __future__ import annotations

import random


def seeded(seed: int, purpose: str) -> random.Random:
    """A stream of its own for each purpose: drawing more for one changes nothing for the others."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311  # chance that can be repeated is the point
