"""Gauges of a scrape: how full pools and buffers are, and no more counting than a process can spare."""

from __future__ import annotations

from orderflow.core.telemetry import Usage
from orderflow.runtime.health import KEPT_S, Labels, kept, usage_reader


class Counted:
    """A reader that takes `takes_s` by a clock that only it and its test move."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.at = 100.0
        self.times = 0

    def now(self) -> float:
        return self.at

    async def __call__(self) -> dict[str, dict[Labels, float]]:
        self.at += self.takes_s
        self.times += 1
        return {"stuck_dead": {(): self.times}}


async def test_what_is_slow_to_count_is_counted_for_a_twentieth_of_the_time_however_often_it_is_asked_for() -> None:
    counted = Counted(takes_s=0.5)
    read = kept(counted, counted.now)

    assert (await read())["stuck_dead"] == {(): 1}
    for _ in range(9):
        counted.at += 1.0
        assert (await read())["stuck_dead"] == {(): 1}
    counted.at += 1.0
    assert (await read())["stuck_dead"] == {(): 2}


async def test_what_is_quick_to_count_is_counted_for_every_scrape() -> None:
    counted = Counted(takes_s=0.001)
    read = kept(counted, counted.now)
    for _ in range(5):
        await read()
        counted.at += 1.0

    assert counted.times == 5


async def test_no_count_is_older_than_a_scrape_interval() -> None:
    counted = Counted(takes_s=10.0)
    read = kept(counted, counted.now)
    await read()
    counted.at += KEPT_S

    assert (await read())["stuck_dead"] == {(): 2}


async def test_pools_and_queues_are_told_by_name_with_their_bounds() -> None:
    read = usage_reader(lambda: {"work": Usage(6, 6, 3)}, lambda: {"commands": Usage(40, 1000)})

    assert await read() == {
        "pool_used": {(("pool", "work"),): 6},
        "pool_waiting": {(("pool", "work"),): 3},
        "pool_limit": {(("pool", "work"),): 6},
        "queue_length": {(("queue", "commands"),): 40},
        "queue_limit": {(("queue", "commands"),): 1000},
    }
