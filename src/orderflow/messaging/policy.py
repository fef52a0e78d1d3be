"""What a fold is told besides its batch."""

from __future__ import annotations

import random
import sys
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from orderflow.messaging.retry import Backoff, RetryPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """How a service's core behaves, always. `release` is the version of the code.

    `away` is how long to wait between two tries of what is not the message's fault.
    """

    retry: RetryPolicy
    away: Backoff
    ask_again: Backoff
    chance: random.Random
    slots: int
    lease_ms: int
    release: str
    parked_keys_max: int
    parked_depth_max: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for one fold only.

    A failing event whose type is in `spared` is deferred instead of parked. The failure of one whose name is in
    `free` uses up no attempt, since it may not be to blame. `holding`: every event is parked without a try. No more
    than `keys_left` keys are closed, and no more than `depth_max` events are parked behind one another; what would
    go beyond is deferred.
    """

    spared: AbstractSet[str] = frozenset()
    free: AbstractSet[tuple[str, str]] = frozenset()
    holding: bool = False
    keys_left: int = sys.maxsize
    depth_max: int = sys.maxsize


FREE = Terms()
