"""The whole saga at saturation: an HTTP POST an order, four processes, until every order is final."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.cpu import cpu_seconds
from benchmarks.load import closed_loop, percentile, post
from benchmarks.samples import count_poison, order_body
from benchmarks.system import System, wait_until_final

CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class Saga:
    """`rate`: orders/s from the first POST until the last order is final. `accepted_rate`: POSTs answered/s.

    `cpu_us` is CPU time an order in µs, by part of the system; `load` is this client.
    """

    orders: int
    rate: float
    accepted_rate: float
    accept_p50_ms: float
    accept_p99_ms: float
    cpu_us: dict[str, int]


async def run_saga(system: System, orders: int, poison_every: int = 0, unfinished: int = 0) -> Saga:
    """Place the orders as fast as they are taken. One in `poison_every` (0: none) is made to fail, and is not waited
    for, nor are the `unfinished` ones of before.
    """
    before, client_before = cpu_seconds(system.pid), time.process_time()
    started = time.perf_counter()
    load = await closed_loop(
        system.ports["order"], CONNECTIONS, orders, lambda number: post("/orders", order_body(number, poison_every))
    )
    if load.refused:
        raise RuntimeError(f"{load.refused} of {orders} orders were refused")
    client = time.process_time() - client_before
    poison = count_poison(orders, poison_every)
    ended = await wait_until_final(system, unfinished + poison, timeout_s=60 + orders / 100)
    spent = {**(cpu_seconds(system.pid) - before), "load": client}
    return Saga(
        orders=orders,
        rate=(orders - poison) / (ended - started),
        accepted_rate=orders / load.duration_s,
        accept_p50_ms=1000 * percentile(load.latencies, 0.50),
        accept_p99_ms=1000 * percentile(load.latencies, 0.99),
        cpu_us={part: round(1e6 * seconds / orders) for part, seconds in spent.items()},
    )
