"""When to try again: exponential back-off with full jitter, as a pure decision."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_ms` to `ceiling_ms`, each drawn evenly from its upper half.

    The mean of attempt n is ¾ · min(ceiling, first · 2ⁿ⁻¹): jitter spreads retries, the floor keeps them apart.
    """

    first_ms: float
    ceiling_ms: float

    def delay_ms(self, attempt: int, chance: random.Random) -> int:
        """The delay after the failed `attempt` (from 1), in ms."""
        full = min(self.ceiling_ms, self.first_ms * 2.0 ** min(attempt - 1, 40))
        return round(full / 2 + chance.random() * full / 2)

    def longest_ms(self, chance: random.Random) -> int:
        """The delay after many failed attempts, in ms."""
        return self.delay_ms(41, chance)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failing message is tried before it is given up."""

    backoff: Backoff
    attempts_max: int

    def again_in_ms(self, attempts: int, chance: random.Random) -> int | None:
        """The delay before the next try after `attempts` failed ones; None: give up."""
        if attempts >= self.attempts_max:
            return None
        return self.backoff.delay_ms(attempts, chance)
