"""What healthy orders feel of parked ones: the same load without and with 1 % of keys that fail at the inventory.

Slices of both are taken in turns on one system, and each round gives one quotient: with ÷ without. After each slice
with failing orders these are mended, replayed, and seen to their end.

    python -m benchmarks.parked --transport kafka --part rate --rounds 8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from random import Random
from statistics import fmean, stdev
from typing import Any

from benchmarks.latency import order_times
from benchmarks.load import percentile
from benchmarks.saga import run_saga
from benchmarks.samples import POISON_PRICE, count_poison
from benchmarks.system import HERE, System, running, wait_until_final

POISON_EVERY = 100
RATE = 20
"""Orders/s at which nothing queues yet, so that a percentile is of the system, not of who waited for whom."""
BOTH = (False, True)
DRAWS = 200
NO_PRICE = 1
FAULT = ("fault", "add", "inventory", "--event", "PaymentSucceeded", "--error", "permanent", "--match")
DEAD_WITHIN_S = 60.0
FINAL_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5
PARTS = ("rate", "latency")
SETTINGS = {"ORDERFLOW_RETRY_FIRST_MS": "200"}


@dataclass(frozen=True, slots=True)
class Quotient:
    """With ÷ without: the mean over the rounds and two standard errors of it (0: only one round)."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


@dataclass(slots=True)
class Parked:
    """Without and with 1 % of keys parked, a value a slice: orders/s of the healthy and CPU µs an order at
    saturation, times of the healthy at a rate, in s.
    """

    rates: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    cpu_us: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    times: dict[bool, list[list[float]]] = field(default_factory=lambda: {False: [], True: []})

    def rate(self) -> Quotient:
        return quotient(self.rates[False], self.rates[True])

    def cpu(self) -> Quotient:
        return quotient(self.cpu_us[False], self.cpu_us[True])

    def time(self, share: float) -> Quotient:
        """Of one percentile of all slices together; the error is from rounds drawn anew (a bootstrap)."""
        rounds, draw = list(zip(self.times[False], self.times[True], strict=True)), Random(0)
        drawn = [_pooled_quotient(draw.choices(rounds, k=len(rounds)), share) for _ in range(DRAWS)]
        return Quotient(_pooled_quotient(rounds, share), 2 * stdev(drawn))

    def pooled_ms(self, parked: bool, share: float) -> float:
        """One percentile of all slices together."""
        return 1000 * _pooled(self.times[parked], share)

    def as_dict(self) -> dict[str, Any]:
        """Without, with."""
        pooled = {
            f"p{share * 100:g}_ms": [self.pooled_ms(each, share) for each in BOTH] for share in (0.5, 0.98, 0.99)
        }
        return {"rates": list(self.rates.values()), "cpu_us": list(self.cpu_us.values()), **pooled}


def quotient(without: Sequence[float], parked: Sequence[float]) -> Quotient:
    """Of slices taken in turns."""
    each = [after / before for before, after in zip(without, parked, strict=True)]
    return Quotient(fmean(each), 2 * stdev(each) / sqrt(len(each)) if len(each) > 1 else 0.0)


def _pooled(slices: Iterable[Sequence[float]], share: float) -> float:
    return percentile([each for times in slices for each in times], share)


def _pooled_quotient(rounds: Sequence[tuple[Sequence[float], Sequence[float]]], share: float) -> float:
    without, parked = zip(*rounds, strict=True)
    return _pooled(parked, share) / _pooled(without, share)


async def run_parked(
    system: System, orders: int, seconds: float, rounds: int, parts: Sequence[str] = PARTS
) -> Parked:
    """`system` runs with --game-day. In each round both are measured, in turns first and second, so that a machine
    that drifts favours neither.
    """
    parked = Parked()
    for number in range(rounds):
        for poisoned in BOTH if number % 2 else reversed(BOTH):
            await _slice(system, parked, orders, seconds, poisoned, parts)
            await wait_until_final(system, 0, FINAL_WITHIN_S)
    return parked


async def _slice(
    system: System, parked: Parked, orders: int, seconds: float, poisoned: bool, parts: Sequence[str]
) -> None:
    """What is measured follows on half as much that is not: by then the retries
    of what has failed are under way, and they last about five seconds.

    The fault is there without failing orders too, at no order's, so that looking for whom it strikes is paid by both.
    """
    every, dead = POISON_EVERY if poisoned else 0, 0
    system.orderflow(*FAULT, f"total={POISON_PRICE if poisoned else NO_PRICE}")
    if "rate" in parts:
        for size in (orders // 2, orders):
            saga = await run_saga(system, size, every, unfinished=dead)
            dead += count_poison(size, every)
        # Of the same 99 in 100 orders, whether the last one fails or not.
        parked.rates[poisoned].append(saga.rate if poisoned else saga.rate * (1 - 1 / POISON_EVERY))
        parked.cpu_us[poisoned].append(float(sum(saga.cpu_us.values())))
        await _until_dead(system, dead)
    if "latency" in parts:
        for length in (seconds / 2, seconds):
            times = await order_times(system.ports["order"], RATE, length, every)
            dead += count_poison(int(RATE * length), every)
        parked.times[poisoned].append(times)
        await _until_dead(system, dead)
    system.orderflow("fault", "clear", "--all")
    if dead:
        system.orderflow("dlt", "replay", "--all", "--reason", "the benchmark goes on")


async def _until_dead(system: System, letters: int) -> None:
    async with asyncio.timeout(DEAD_WITHIN_S):
        while len(system.orderflow("dlt", "list", "--limit", "100000")["dead_letters"]) < letters:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)


async def measure_parked(
    system: System, orders: int, seconds: float, rounds: int, parts: Sequence[str] = PARTS
) -> Parked:
    """`run_parked` on a system that is warm."""
    await run_saga(system, orders)
    return await run_parked(system, orders, seconds, rounds, parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parked", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--transport", choices=("postgres", "kafka"), default="postgres")
    parser.add_argument("--part", choices=(*PARTS, "both"), default="both")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--orders", type=int, default=8_000, help="of a slice at saturation")
    parser.add_argument("--seconds", type=float, default=20, help=f"of a slice at {RATE} orders/s")
    given = parser.parse_args()
    parts = PARTS if given.part == "both" else (given.part,)
    with running(HERE, given.transport, "--game-day", settings=SETTINGS) as system:
        parked = asyncio.run(measure_parked(system, given.orders, given.seconds, given.rounds, parts))
    if parked.rates[True]:
        print(f"orders/s of the healthy at saturation: {parked.rate()}; CPU an order: {parked.cpu()}")
    if parked.times[True]:
        print(f"p50 at {RATE}/s: {parked.time(0.5)}; p98: {parked.time(0.98)}; p99: {parked.time(0.99)}")
    print(json.dumps(parked.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
