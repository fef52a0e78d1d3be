"""What healthy orders feel of parked ones: the same load without and with 1 % of keys that fail at the inventory.

Slices of both are taken in turns on one system; after each with failing orders these are mended and replayed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from benchmarks.latency import order_times
from benchmarks.load import percentile
from benchmarks.saga import run_saga
from benchmarks.samples import POISON_CUSTOMER
from benchmarks.system import System

POISON_EVERY = 100
RATE = 50
BOTH = (False, True)
FAULT = (
    *("fault", "add", "inventory", "--event", "PaymentSucceeded"),
    *("--match", f"customer_id={POISON_CUSTOMER}", "--error", "permanent"),
)
DEAD_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class Parked:
    """Without and with 1 % of keys parked: orders/s of the healthy at saturation, and their times at a rate, in s.

    `seconds` are those of the saturated slices, `healthy` the orders that ended in them.
    """

    healthy: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    seconds: dict[bool, float] = field(default_factory=lambda: {False: 0.0, True: 0.0})
    times: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def rate(self, parked: bool) -> float:
        return self.healthy[parked] / self.seconds[parked]

    def p99_ms(self, parked: bool) -> float:
        return 1000 * percentile(self.times[parked], 0.99)

    def as_dict(self) -> dict[str, list[float]]:
        """Without, with."""
        return {"rates": [self.rate(each) for each in BOTH], "p99_ms": [self.p99_ms(each) for each in BOTH]}


async def run_parked(system: System, orders: int, seconds: float, rounds: int, already_final: int) -> Parked:
    """`system` runs with --game-day; `already_final` orders of it have ended before.

    In each round both are measured, in turns first and second, so that a machine that drifts favours neither.
    """
    parked, final = Parked(), already_final
    for number in range(rounds):
        for poisoned in BOTH if number % 2 else reversed(BOTH):
            await _slice(system, parked, orders, seconds, final, poisoned)
            final += orders + round(RATE * seconds)
    return parked


async def _slice(system: System, parked: Parked, orders: int, seconds: float, final: int, poisoned: bool) -> None:
    every = POISON_EVERY if poisoned else 0
    if poisoned:
        _orderflow(system, *FAULT)
    saga = await run_saga(system, orders, final, every)
    healthy = orders - orders // POISON_EVERY if poisoned else orders
    parked.healthy[poisoned] += healthy
    parked.seconds[poisoned] += healthy / saga.rate
    if poisoned:
        # The burst's own tries are over: from here on its keys are parked, and new ones come at the rate.
        await _until_dead(system, orders // POISON_EVERY)
    parked.times[poisoned] += await order_times(system, RATE, seconds, every)
    if poisoned:
        await _until_dead(system, orders // POISON_EVERY + round(RATE * seconds) // POISON_EVERY)
        _orderflow(system, "fault", "clear", "--all")
        _orderflow(system, "dlt", "replay", "--all", "--reason", "the benchmark goes on")


async def _until_dead(system: System, letters: int) -> None:
    async with asyncio.timeout(DEAD_WITHIN_S):
        while len(_orderflow(system, "dlt", "list", "--limit", "100000")["dead_letters"]) < letters:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)


def _orderflow(system: System, *command: str) -> Any:
    """What the command line says, in JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "orderflow", *command, "--home", str(system.settings.home), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"orderflow {' '.join(command)}: {done.stderr or done.stdout}")
    return json.loads(done.stdout)
