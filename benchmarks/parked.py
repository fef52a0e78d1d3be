"""What healthy orders feel of parked ones: the same load without and with 1 % of keys that fail at the inventory.

The pairs are taken in turns on one system; after each the failing orders are mended and replayed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.latency import run_latency
from benchmarks.saga import run_saga
from benchmarks.samples import POISON_CUSTOMER
from benchmarks.system import System

POISON_EVERY = 100
RATE = 100
FAULT = (
    *("fault", "add", "inventory", "--event", "PaymentSucceeded"),
    *("--match", f"customer_id={POISON_CUSTOMER}", "--error", "permanent"),
)
DEAD_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class Parked:
    """Pairs (without, with 1 % of keys parked): orders/s of the healthy at saturation, and p99 in ms at a rate."""

    rates: list[tuple[float, float]] = field(default_factory=list)
    p99_ms: list[tuple[float, float]] = field(default_factory=list)

    def rate_ratio(self) -> float:
        """With ÷ without; the median of the pairs."""
        return median(after / before for before, after in self.rates)

    def p99_ratio(self) -> float:
        return median(after / before for before, after in self.p99_ms)


async def run_parked(system: System, orders: int, seconds: float, rounds: int, already_final: int) -> Parked:
    """`system` runs with --game-day; `already_final` orders of it have ended before."""
    parked, final = Parked(), already_final
    for _ in range(rounds):
        healthy = await run_saga(system, orders, final)
        calm = await run_latency(system, RATE, seconds)
        final += orders + round(RATE * seconds)
        _orderflow(system, *FAULT)
        troubled = await run_saga(system, orders, final, POISON_EVERY)
        uneasy = await run_latency(system, RATE, seconds, POISON_EVERY)
        parked.rates.append((healthy.rate, troubled.rate))
        parked.p99_ms.append((calm.p99_ms, uneasy.p99_ms))
        poison = orders // POISON_EVERY + round(RATE * seconds) // POISON_EVERY
        await _until_dead(system, poison)
        _orderflow(system, "fault", "clear", "--all")
        _orderflow(system, "dlt", "replay", "--all", "--reason", "the benchmark goes on")
        final += orders + round(RATE * seconds)
    return parked


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
