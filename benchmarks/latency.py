"""POST → COMPLETED as a client sees it, at a steady rate: each order is placed when it is due, then waited for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import msgspec

from benchmarks.cpu import cpu_seconds
from benchmarks.load import Pool, get, percentile, post
from benchmarks.samples import is_poison, order_body
from benchmarks.system import System

FINAL_WITHIN_S = 30


class Answer(msgspec.Struct):
    """What is read of an order."""

    id: str
    status: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Times in ms from the moment at which the order was due. `cpu_share` is of one core, all parts together;
    `cpu_ms` CPU time an order by part of the system.
    """

    rate: int
    p50_ms: float
    p99_ms: float
    cpu_share: float
    cpu_ms: dict[str, float]


async def run_latency(system: System, rate: int, seconds: float) -> Latency:
    """Place orders at the rate, and see each to its end."""
    before, started = cpu_seconds(system.pid), time.perf_counter()
    took = await order_times(system.ports["order"], rate, seconds)
    spent: Counter[str] = cpu_seconds(system.pid) - before
    return Latency(
        rate=rate,
        p50_ms=1000 * percentile(took, 0.50),
        p99_ms=1000 * percentile(took, 0.99),
        cpu_share=sum(spent.values()) / (time.perf_counter() - started),
        cpu_ms={part: 1000 * seconds / len(took) for part, seconds in spent.items()},
    )


async def order_times(port: int, rate: float, seconds: float, poison_every: int = 0) -> list[float]:
    """From due to COMPLETED in s, of each order. One in `poison_every` (0: none) is made to fail, and only placed.

    Open loop: a slow answer does not hold up the next order, so a stall is seen by all that it delays.
    """
    pool = Pool(port)
    decoder = msgspec.json.Decoder(Answer)
    took: list[float] = []

    async def one(number: int, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        _, body = await pool.request(post("/orders", order_body(number, poison_every)))
        if is_poison(number, poison_every):
            return
        order = decoder.decode(body)
        _, body = await pool.request(get(f"/orders/{order.id}?wait={FINAL_WITHIN_S}"))
        took.append(time.perf_counter() - due)
        status = decoder.decode(body).status
        if status != "COMPLETED":
            raise RuntimeError(f"order {order.id} is {status}")

    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                group.create_task(one(number, started + number / rate))
    finally:
        pool.close()
    return took


async def orders_at_once(port: int, in_flight: int, orders: int) -> None:
    """Place so many orders, so many of them at a time, each seen to its end before the next."""
    pool, numbers, decoder = Pool(port), iter(range(orders)), msgspec.json.Decoder(Answer)

    async def work() -> None:
        for number in numbers:
            _, body = await pool.request(post("/orders", order_body(number)))
            order = decoder.decode(body)
            _, body = await pool.request(get(f"/orders/{order.id}?wait={FINAL_WITHIN_S}"))
            if decoder.decode(body).status != "COMPLETED":
                raise RuntimeError(f"order {order.id} is not completed: {body!r}")

    try:
        await asyncio.gather(*(work() for _ in range(in_flight)))
    finally:
        pool.close()
