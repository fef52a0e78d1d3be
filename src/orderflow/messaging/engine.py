"""The core of one running service: everything between its database, the log and its outside world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orderflow.messaging.decision import Intent
from orderflow.messaging.message import Answer


class GatewayUnavailableError(Exception):
    """The outside world cannot be reached at all: infrastructure; the intent is asked again."""


class Gateway(Protocol):
    """Asks the outside world. One call an intent; many run side by side."""

    async def ask(self, intent: Intent) -> Answer:
        """Carry out the intent under its key as idempotency key; return what was answered.

        A time-out is an answer too: *unknown*. Raises GatewayUnavailableError when nothing was asked.
        """
        ...


class OverloadedError(Exception):
    """Too many commands wait already; try again in `retry_after_s`."""

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__("too many commands are waiting")
        self.retry_after_s = retry_after_s


class DecisionFailedError(Exception):
    """The decision over a command raised: a defect of ours. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the core behaves; one default for all loads."""

    batch_max: int = 500
    pace_ms_per_record: float = 0.4
    pace_max_ms: float = 40.0
    command_queue_max: int = 4096
    attempts_max: int = 6
    retry_first_ms: int = 200
    retry_ceiling_ms: int = 20_000
    infrastructure_ceiling_ms: int = 5_000
    gateway_concurrency: int = 64
    gateway_queue_max: int = 2048
    intent_lease_ms: int = 15_000
    outbox_slots: int = 16
    outbox_keep_ms: int = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong, by component (`database`, `transport`, `relay`, `consumer`, `gateway`); empty when ready."""

    problems: Mapping[str, str] = field(default_factory=dict)
