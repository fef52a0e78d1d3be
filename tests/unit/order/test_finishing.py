"""Waiting for an order's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from orderflow.core.messages import Event
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import BatchCommitted, Handled, Outcome
from orderflow.events.order import OrderCompleted, OrderFailed
from orderflow.http.problems import ProblemError
from orderflow.services.order.api import JUST_PLACED_S, Finishing
from orderflow.services.order.storage import Orders
from tests.support.decisions import id_of
from tests.support.waiting import eventually
from tests.unit.core.still_clock import StillClock

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
    def __init__(self, at_most: int = 100) -> None:
        self.database = Finished()
        self.stopping = asyncio.Event()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clock = StillClock()
        self.finishing = Finishing(Orders(self.database), self.clock, self.stopping, at_most)

    async def wait(self, order_id: UUID, timeout_s: float = 30.0) -> bool:
        with self.finishing.expect(order_id) as expectation:
            return await expectation.met(timeout_s, self.gone)

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
    world.database.finished = {FIRST, SECOND}
    waiting = [await world.start(each) for each in (FIRST, SECOND, FIRST)]
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


async def test_who_comes_when_enough_wait_is_told_to_come_later() -> None:
    world = World(at_most=2)
    waiting = [await world.start(each) for each in (FIRST, SECOND)]
    with pytest.raises(ProblemError) as refused:
        await world.wait(FIRST)
    assert (refused.value.problem.status, refused.value.headers) == (503, ((b"retry-after", b"1"),))
    world.commit(completed(FIRST))
    assert await waiting[0]
    waiting[0] = await world.start(FIRST)
    world.commit(completed(FIRST), completed(SECOND))
    assert all(await asyncio.gather(*waiting))


async def test_an_order_that_has_ended_is_told_however_many_wait() -> None:
    with World(at_most=0).finishing.expect(FIRST):
        """Only waiting is refused: who finds the order ended does not wait."""


async def test_a_client_that_leaves_waits_no_longer() -> None:
    world = World(at_most=1)
    waiting = await world.start(FIRST)
    world.gone.set_result(None)
    assert not await waiting
    world.gone = asyncio.get_running_loop().create_future()
    again = await world.start(FIRST)
    world.commit(completed(FIRST))
    assert await again


async def test_a_process_that_stops_keeps_nobody_waiting() -> None:
    world = World()
    waiting = await world.start(FIRST)
    world.stopping.set()
    assert await waiting
    assert not await world.wait(FIRST)


async def test_an_order_that_was_just_placed_here_is_under_way_until_it_ends_here() -> None:
    world = World()
    assert not world.finishing.is_under_way(FIRST, None)
    world.finishing.placed(FIRST, None)
    world.finishing.placed(SECOND, None)
    assert world.finishing.is_under_way(FIRST, None)
    world.commit(completed(FIRST))
    assert not world.finishing.is_under_way(FIRST, None)
    assert world.finishing.is_under_way(SECOND, None)


async def test_an_order_that_was_placed_longer_ago_may_have_been_ended_elsewhere() -> None:
    world = World()
    world.finishing.placed(FIRST, None)
    world.clock.now += JUST_PLACED_S
    assert not world.finishing.is_under_way(FIRST, None)
    world.finishing.placed(SECOND, None)
    assert world.finishing.is_under_way(SECOND, None)


@pytest.mark.parametrize(("asks", "sees"), [(None, True), ("espresso", True), ("other", False)])
async def test_an_order_is_under_way_only_for_those_who_may_see_it(asks: str | None, sees: bool) -> None:
    world = World()
    world.finishing.placed(FIRST, "espresso")
    assert world.finishing.is_under_way(FIRST, asks) is sees
