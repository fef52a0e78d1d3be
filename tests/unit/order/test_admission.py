"""Whether another order is let in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import Signal, Signals, TaskFailed
from orderflow.http.problems import ProblemError
from orderflow.services.order.api import Admission
from orderflow.services.order.storage import Orders


class HandClock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Counting:
    """A database that counts as told, once it is let go."""

    def __init__(self) -> None:
        self.unfinished = 0
        self.asked = 0
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def fetch(self, query: str, *arguments: object) -> Sequence[dict[str, Any]]:
        self.asked += 1
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return [{"unfinished": self.unfinished}]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def admitted(admission: Admission, wanted: int) -> int:
    count = 0
    for _ in range(wanted):
        try:
            admission.admit()
        except ProblemError:
            continue
        count += 1
    return count


async def test_orders_are_counted_once_a_second_however_many_come() -> None:
    database, clock = Counting(), HandClock()
    admission = Admission(Orders(database), clock, Signals(), 1000)
    assert admitted(admission, 50) == 50
    await settled()
    assert admitted(admission, 50) == 50
    await settled()
    assert database.asked == 1
    clock.now += 1
    assert admitted(admission, 50) == 50
    await settled()
    assert database.asked == 2


async def test_no_more_are_let_in_than_the_bound_between_two_counts() -> None:
    database, clock = Counting(), HandClock()
    admission = Admission(Orders(database), clock, Signals(), 10)
    database.go_on.clear()
    assert admitted(admission, 6) == 6
    database.unfinished = 3
    database.go_on.set()
    await settled()
    assert admitted(admission, 20) == 1
    clock.now += 1
    database.unfinished = 4
    assert admitted(admission, 1) == 0
    await settled()
    assert admitted(admission, 20) == 6


async def test_who_is_refused_is_told_when_to_come_again() -> None:
    admission = Admission(Orders(Counting()), HandClock(), Signals(), 0)
    with pytest.raises(ProblemError) as refused:
        admission.admit()
    assert refused.value.problem.status == 503
    assert dict(refused.value.headers)[b"retry-after"] == b"2"


async def test_a_database_that_is_away_shuts_no_door_here() -> None:
    database, clock = Counting(), HandClock()
    told: list[Signal] = []
    admission = Admission(Orders(database), clock, Signals([told.append]), 10)
    database.error = StoreUnavailableError("away")
    assert admitted(admission, 1) == 1
    await settled()
    assert admitted(admission, 1) == 1
    assert not told


async def test_a_defect_of_the_count_is_told() -> None:
    database, clock = Counting(), HandClock()
    told: list[Signal] = []
    admission = Admission(Orders(database), clock, Signals([told.append]), 10)
    database.error = error = RuntimeError("a defect")
    admission.admit()
    await settled()
    assert told == [TaskFailed("order", "admission", error)]
