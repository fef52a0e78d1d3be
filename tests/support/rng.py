"""Chance for tests that want to know what it draws."""

from __future__ import annotations

import random


class Drawn(random.Random):
    """Draws the same each time."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value
