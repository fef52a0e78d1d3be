"""One call in the middle of another, at each place where the other lets somebody else run."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec

from orderflow.simulation.loop import virtual_loop

SEEDS = 4
SOON_S = 0.1
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Scene:
    """`second` is called once while `first` runs; `check` waits for what must come of both, and asserts it."""

    first: Callable[[], Coroutine[Any, Any, object]]
    second: Callable[[], object]
    check: Callable[[], Coroutine[Any, Any, object]]


def at_each_step(make: Callable[[], Scene]) -> int:
    """Make the scene anew for each step of `first`, with `second` before that step, and after its end.

    Time is virtual: what waits for ever in `check` raises DeadlockError, or fails by a timeout of its own.
    Returns how many scenes were played.
    """
    played = 0
    for seed in range(SEEDS):
        step = 1
        while _plays(make, seed, step):
            step += 1
        played += step
    return played


def _plays(make: Callable[[], Scene], seed: int, step: int) -> bool:
    """Whether `first` takes so many steps."""
    rng = _Interrupting(seed, step)
    loop = virtual_loop(rng)

    async def play() -> bool:
        scene = make()

        def second() -> None:
            made = scene.second()
            if isinstance(made, Coroutine):
                others.append(loop.create_task(made))

        others = [loop.create_task(scene.first())]
        rng.interrupt = second
        await others[0]
        interrupted, rng.interrupt = rng.interrupt is None, None
        if not interrupted:
            second()
        for other in others[1:]:
            await other
        await scene.check()
        return interrupted

    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


def virtually(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in virtual time: hours pass at once, and nothing is judged by this machine's clock."""

    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        loop = virtual_loop(random.Random(1))
        try:
            loop.run_until_complete(test(*arguments, **named))
        finally:
            loop.close()
        assert loop.errors == []

    return run


async def soon(holds: Callable[[], bool], state: Callable[[], object], *, timeout_s: float = 5.0) -> None:
    """Wait in virtual time until it holds. Raises AssertionError with the state when it does not."""
    for _ in range(int(timeout_s / SOON_S)):
        if holds():
            return
        await asyncio.sleep(SOON_S)
    assert holds(), state()


class _Interrupting(random.Random):
    """Chance as the loop asks for it, once before each callback that it runs; at the given one it interrupts."""

    interrupt: Callable[[], None] | None = None

    def __init__(self, seed: int, step: int) -> None:
        super().__init__(seed)
        self._left = step

    def random(self) -> float:
        interrupt = self.interrupt
        if interrupt is not None:
            self._left -= 1
            if not self._left:
                self.interrupt = None
                interrupt()
        return super().random()
