"""Waiting for an order's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orderflow.events.order import OrderCompleted, OrderFailed
from orderflow.messaging.message import Event
from orderflow.messaging.signals import BatchCommitted, Handled, Outcome
from orderflow.messaging.store import StoreUnavailableError
from orderflow.order.finishing import Finishing
from orderflow.order.store import Orders
from tests.support.decisions import id_of
from tests.support.waiting import eventually

FIRST, SECOND = id_of("first"), id_of("second")


class Finished:
    """A database that names the finished among those asked for."""

    def __init__(self) -> None:
        self.finished: set[UUID] = set()
        self.asked: list[list[UUID]] = []
        self.away = False

    async def fetch(self, query: str, *arguments: Any) -> Sequence[dict[str, Any]]:
        self.asked.append(arguments[0])
        if self.away:
            raise StoreUnavailableError("away")
        return [{"order_id": each} for each in arguments[0] if each in self.finished]


class World:
    def __init__(self) -> None:
        self.database = Finished()
        self.stopping = asyncio.Event()
        self.finishing = Finishing(Orders(self.database), self.stopping)

    async def wait(self, order_id: UUID, timeout_s: float = 30.0) -> bool:
        with self.finishing.expect(order_id) as expectation:
            return await expectation.met(timeout_s)

    async def start(self, order_id: UUID) -> asyncio.Task[bool]:
        task = asyncio.create_task(self.wait(order_id))
        await asyncio.sleep(0)
        return task

    def commit(self, *events: Event) -> None:
        handled = Handled(Outcome.HANDLED, "k", FIRST, "t", caused=events)
        self.finishing.notice(BatchCommitted("order", "order", [handled], 0.0))


def completed(order_id: UUID) -> OrderCompleted:
    return OrderCompleted(order_id=order_id, customer_id="c", currency="EUR", total=1)


async def test_a_commit_of_this_process_wakes_those_who_wait_for_its_orders_and_nobody_else() -> None:
    world = World()
    first, other = await world.start(FIRST), await world.start(FIRST)
    second = await world.start(SECOND)
    world.commit(completed(FIRST))
    assert await first
    assert await other
    assert not second.done()
    world.commit(OrderFailed(order_id=SECOND, customer_id="c", reason="x"))
    assert await second


async def test_one_poll_finds_for_everybody_what_others_have_finished() -> None:
    world = World()
    waiting = [await world.start(each) for each in (FIRST, SECOND, FIRST)]
    world.database.finished = {FIRST, SECOND}
    assert all(await asyncio.gather(*waiting))
    assert [sorted(each) for each in world.database.asked] == [sorted([FIRST, SECOND])]


async def test_nothing_is_asked_when_nobody_waits() -> None:
    world = World()
    assert not await world.wait(FIRST, 0.01)
    world.commit(completed(FIRST))
    assert world.database.asked in ([], [[FIRST]])


async def test_a_database_that_is_away_is_asked_again() -> None:
    world = World()
    world.database.away = True
    waiting = await world.start(FIRST)
    await eventually(lambda: len(world.database.asked) >= 1)
    world.database.away = False
    world.database.finished = {FIRST}
    assert await waiting


async def test_a_process_that_stops_keeps_nobody_waiting() -> None:
    world = World()
    waiting = await world.start(FIRST)
    world.stopping.set()
    assert await waiting
    assert not await world.wait(FIRST)
