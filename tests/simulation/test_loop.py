"""The event loop on virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import random

import pytest

from orderflow.simulation.loop import OWNER, DeadlockError, EscapeError, VirtualLoop, virtual_loop


class Machine:
    alive = True


def a_loop(seed: int = 1) -> VirtualLoop:
    return virtual_loop(random.Random(seed))


def order_of(seed: int) -> list[int]:
    loop, seen = a_loop(seed), []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    async def main() -> None:
        await asyncio.gather(*(note(number) for number in range(10)))

    loop.run_until_complete(main())
    loop.close()
    return seen


def test_hours_pass_at_once() -> None:
    loop = a_loop()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == 3600


def test_the_seed_decides_the_order_of_what_is_ready() -> None:
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)) for seed in range(20)}) > 15
    assert sorted(order_of(1)) == list(range(10))


def test_timers_fire_in_the_order_of_their_times() -> None:
    loop = a_loop()
    fired: list[float] = []
    for delay in (3.0, 1.0, 2.0):
        loop.call_later(delay, fired.append, delay)
    loop.run_until_complete(asyncio.sleep(5))
    assert fired == [1.0, 2.0, 3.0]


def test_a_cancelled_timer_does_not_fire() -> None:
    loop = a_loop()
    fired: list[float] = []
    loop.call_later(1, fired.append, 1).cancel()
    loop.run_until_complete(asyncio.sleep(5))
    assert fired == []


def test_a_timeout_takes_virtual_time() -> None:
    loop = a_loop()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 60)

    loop.run_until_complete(main())
    assert loop.time() == 60


def test_waiting_for_nothing_is_said_to_be_a_deadlock() -> None:
    with pytest.raises(DeadlockError):
        a_loop().run_until_complete(asyncio.Event().wait())


def test_nothing_of_a_dead_owner_runs_any_more_not_even_its_finally_blocks() -> None:
    loop, machine, seen = a_loop(), Machine(), []

    async def work() -> None:
        try:
            while True:
                seen.append(loop.time())
                await asyncio.sleep(1)
        finally:
            seen.append(-1.0)

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(OWNER.set, machine)
        task = loop.create_task(work(), context=context)
        await asyncio.sleep(2.5)
        machine.alive = False
        loop.cancel_all(machine)
        await asyncio.sleep(10)
        assert not task.done()

    loop.run_until_complete(main())
    assert seen == [0.0, 1.0, 2.0]
    loop.close()


def test_a_thread_is_an_escape() -> None:
    loop = a_loop()
    with pytest.raises(EscapeError):
        loop.run_until_complete(asyncio.to_thread(int))


def test_an_error_that_nobody_awaits_is_kept() -> None:
    loop = a_loop()

    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(1)
        del task

    loop.run_until_complete(main())
    assert "nobody looks" in loop.errors[0]


def test_closing_ends_tasks_that_refuse_to_end() -> None:
    loop = a_loop()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1000)

    async def main() -> None:
        loop.create_task(stubborn())
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    loop.close()
    assert loop.is_closed()
    assert loop.errors == []
