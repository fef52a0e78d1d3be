"""What a seed stands for: how large the world is, and what befalls it.

Every seed draws which kinds of faults it has at all (swarm testing: Groce et al., ISSTA 2012): a world in which
everything fails at once hides what a world with one kind of fault shows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orderflow.messaging.engine_config import EngineConfig
from orderflow.simulation.chance import seeded
from orderflow.simulation.steps import BANK_STEPS, STEPS

SERVICES = ("order", "payment", "inventory", "notification")


class Fault(StrEnum):
    """What can happen to one process at one step."""

    CRASH = "crash"
    ERROR = "error"
    DELAY = "delay"


class Trouble(StrEnum):
    """What can happen to the world at a moment."""

    KILL = "kill a process"
    DRAIN = "restart a process in good order"
    DATABASE_AWAY = "take a database away"
    LOG_AWAY = "take the log away"
    BANK_AWAY = "take the bank away"
    BANK_MUTE = "lose answers of the bank"
    REWIND = "rewind a group"
    STALL = "let a member miss its heartbeats"
    DUPLICATE = "append records of the past again"
    SLOW_PARTITION = "deliver a partition late"
    REFUSE = "let a database refuse an order"
    POISON = "append a record that nobody can read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One world. Times are in virtual seconds.

    `out_of_stock` is the share of orders that cannot be served. `fault_every` is the mean number of steps
    between two faults; at the step `focus` they are frequent, so that rare steps get their share.
    """

    seed: int
    orders: int
    out_of_stock: float
    processes: Mapping[str, int]
    partitions: int
    faults: tuple[Fault, ...]
    fault_every: float
    focus: str
    troubles: tuple[Trouble, ...]
    troubled_s: float
    session_timeout_s: float
    skew_ms: int
    bank_timeout_s: float
    config: EngineConfig

    def describe(self) -> str:
        """One line."""
        processes = ", ".join(f"{count} {name}" for name, count in self.processes.items())
        focus = f", most at {self.focus}" if self.focus else ""
        faults = f"{', '.join(self.faults)} every {self.fault_every:.0f} steps{focus}" if self.faults else "no faults"
        troubles = "; ".join(self.troubles) or "no troubles"
        return f"{self.orders} orders, {processes}, {self.partitions} partitions; {faults}; {troubles}"


def draw(seed: int) -> Plan:
    """The plan of a seed: always the same."""
    chance = seeded(seed, "plan")
    faults = tuple(fault for fault in Fault if chance.random() < 0.6)
    focus = chance.choice(STEPS) if faults and chance.random() < 0.5 else ""
    return Plan(
        seed=seed,
        orders=chance.randint(1, 6),
        out_of_stock=0.9 if focus in BANK_STEPS else chance.choice((0.1, 0.5)),
        processes={name: 2 if chance.random() < 0.25 else 1 for name in SERVICES},
        partitions=chance.randint(1, 3),
        faults=faults,
        fault_every=chance.choice((10.0, 25.0, 60.0, 150.0)),
        focus=focus,
        troubles=_troubles(chance, focus),
        troubled_s=chance.choice((1.5, 3.0, 6.0)),
        session_timeout_s=chance.choice((0.5, 2.0)),
        skew_ms=chance.choice((0, 50, 5_000)),
        bank_timeout_s=chance.choice((0.3, 1.0)),
        config=_config(chance),
    )


def _troubles(chance: random.Random, focus: str) -> tuple[Trouble, ...]:
    kinds = [trouble for trouble in Trouble if chance.random() < 0.4]
    count = chance.choice((0, 1, 2, 4, 6)) if kinds else 0
    drawn = tuple(chance.choice(kinds) for _ in range(count))
    return (*drawn, *[Trouble.REFUSE] * 4) if focus == "parked" else drawn


def _config(chance: random.Random) -> EngineConfig:
    """The production engine with shorter waits, so that a virtual minute is enough, and batches of any size."""
    return EngineConfig(
        batch_max=chance.choice((1, 2, 5, 500)),
        command_queue_max=chance.choice((2, 4096)),
        attempts_max=chance.choice((2, 6)),
        retry_first_ms=100,
        retry_ceiling_ms=1_000,
        infrastructure_ceiling_ms=500,
        ask_again_first_ms=100,
        ask_again_ceiling_ms=1_000,
        gateway_concurrency=chance.choice((1, 256)),
        gateway_queue_max=chance.choice((1, 2048)),
        intent_lease_ms=2_000,
        outbox_slots=chance.choice((1, 4)),
    )
