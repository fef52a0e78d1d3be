"""How the core of a service behaves."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orderflow.messaging.policy import Policy
from orderflow.messaging.retry import Backoff, RetryPolicy


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the core behaves; one default for all loads. Times are in ms. `release` is the version of the code.

    What is tried again, or waits, for longer than `alarm_age_ms` is an alarm.
    Behind `parked_keys_max` parked keys of a consumer, or `parked_depth_max` events of one key, the partition waits.
    """

    batch_max: int = 500
    pace_max_ms: float = 20.0
    command_queue_max: int = 4096
    attempts_max: int = 6
    retry_first_ms: int = 2_500
    retry_ceiling_ms: int = 40_000
    parked_keys_max: int = 10_000
    parked_depth_max: int = 1_000
    infrastructure_first_ms: int = 100
    infrastructure_ceiling_ms: int = 5_000
    ask_again_first_ms: int = 500
    ask_again_ceiling_ms: int = 60_000
    gateway_concurrency: int = 256
    gateway_queue_max: int = 2048
    intent_lease_ms: int = 8_000
    alarm_age_ms: int = 600_000
    outbox_slots: int = 16
    outbox_keep_ms: int = 24 * 3_600_000
    release: str = ""

    @property
    def longest_wait_ms(self) -> int:
        """No delay and no lease that a database dates is longer: a second is left for statements that wait."""
        return max(self.retry_ceiling_ms, self.ask_again_ceiling_ms, self.intent_lease_ms) + 1_000


def policy_of(config: EngineConfig, chance: random.Random) -> Policy:
    """What a fold needs of it."""
    return Policy(
        retry=RetryPolicy(Backoff(config.retry_first_ms, config.retry_ceiling_ms), config.attempts_max),
        away=Backoff(config.infrastructure_first_ms, config.infrastructure_ceiling_ms),
        ask_again=Backoff(config.ask_again_first_ms, config.ask_again_ceiling_ms),
        chance=chance,
        slots=config.outbox_slots,
        lease_ms=config.intent_lease_ms,
        release=config.release,
        parked_keys_max=config.parked_keys_max,
        parked_depth_max=config.parked_depth_max,
    )
