"""An event loop in which time is virtual and the next callback is chosen by a seed.

Nothing waits for real: when nothing is ready, time jumps to the next timer. Among what is ready the seed picks, so
every order of callbacks that separate processes could show is within reach. Every callback belongs to the owner of
the context that it was made in; the callbacks of an owner that is no longer alive never run.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack

import msgspec


def seeded(seed: int, purpose: str) -> random.Random:
    """A stream of its own for each purpose: drawing more for one changes nothing for the others."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311  # chance that can be repeated is the point


T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CLOSE_TRIES = 20
PRUNE_EVERY = 256
STEPS_MAX = 400_000
"""A world that comes to rest takes a tenth of it."""


class Owner(Protocol):
    """Whoever callbacks belong to: a simulated process."""

    @property
    def alive(self) -> bool: ...


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("simulated owner", default=None)


class DeadlockError(Exception):
    """Nothing is ready, no timer is set, and what was waited for has not happened."""


class LivelockError(Exception):
    """So much has happened without an end that there will be none."""


class EscapeError(Exception):
    """The code asked for something that a simulation does not have: a thread, a socket, a real wait."""


class Job(msgspec.Struct, eq=False):
    """A callback that waits for its turn: asyncio's handle, made at a third of its price."""

    time: float
    callback: Callable[..., object]
    arguments: tuple[Any, ...]
    context: contextvars.Context
    owner: Owner | None
    stopped: bool = False

    def cancel(self) -> None:
        self.stopped = True

    def cancelled(self) -> bool:
        return self.stopped

    def when(self) -> float:
        return self.time


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs tasks deterministically: the same `rng` gives the same run.

    `errors` are the exceptions that nobody retrieved. Whatever is not offered here (sockets, threads, signals)
    raises NotImplementedError or EscapeError.
    """

    def __init__(self, rng: random.Random) -> None:
        self.errors: list[str] = []
        self.now = 0.0
        self._random = rng.random
        self._steps = itertools.count(1)
        self._ready: list[Job] = []
        self._timers: list[tuple[float, int, Job]] = []
        self._timer_count = 0
        self._tasks: list[tuple[Owner | None, asyncio.Task[Any]]] = []
        self._prune_at = PRUNE_EVERY
        self.closed = False

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]  # a Job does what a handle does
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Job:
        if context is None:
            context = contextvars.copy_context()
        job = Job(self.now, callback, args, context, context.get(OWNER))
        self._ready.append(job)
        return job

    def call_at(  # type: ignore[override]  # a Job does what a handle does
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Job:
        if context is None:
            context = contextvars.copy_context()
        job = Job(when, callback, args, context, context.get(OWNER))
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, job))
        return job

    def call_later(  # type: ignore[override]  # a Job does what a handle does
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Job:
        if context is None:
            context = contextvars.copy_context()
        when = self.now + delay
        job = Job(when, callback, args, context, context.get(OWNER))
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, job))
        return job

    def call_soon_threadsafe(self, *_: object, **__: object) -> NoReturn:
        raise EscapeError("a thread calls into the simulation")

    def run_in_executor(self, *_: object) -> NoReturn:
        raise EscapeError("a thread is started in the simulation")

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        owner = OWNER.get() if context is None else context.get(OWNER)
        task = asyncio.Task(coro, loop=self, name=name or "", context=context)  # a name made for each costs time
        self._tasks.append((owner, task))
        if len(self._tasks) >= self._prune_at:
            self._forget_done()
        return task

    def cancel_all(self, owner: Owner) -> None:
        """Take back what the tasks of a dead owner wait for. They themselves never get to know."""
        for mine, task in self._tasks:
            if mine is owner:
                task.cancel()

    def run_until_complete(self, future: Generator[Any, None, T] | Coroutine[Any, Any, T] | Any) -> T:
        """Run until the coroutine is done. Raises what it raises, and DeadlockError."""
        asyncio._set_running_loop(self)  # noqa: SLF001  # documented as being for those who write event loops
        try:
            task: asyncio.Task[T] = self.create_task(future)
            self._run_until(task.done)
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
            self._forget_done()
        return task.result()

    def close(self) -> None:
        """End every task where it stands. What their `finally` blocks schedule never runs."""
        if self.closed:
            return
        self.closed = True
        asyncio._set_running_loop(self)  # noqa: SLF001
        try:
            for _, task in self._tasks:
                if not task.done():
                    _end(task.get_coro())
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
            self._ready.clear()
            self._timers.clear()
            self._tasks.clear()

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self  # noqa: SLF001

    def is_closed(self) -> bool:
        return self.closed

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody awaited. After `close` they come from tasks that were cut off: no errors."""
        if not self.closed:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _forget_done(self) -> None:
        """A task that failed and that nobody awaited says so when it is forgotten."""
        self._tasks = [each for each in self._tasks if not each[1].done()]
        self._prune_at = len(self._tasks) + PRUNE_EVERY

    def _run_until(self, done: Callable[[], bool]) -> None:
        """The heart of it: one callback after the other."""
        ready, rng, steps = self._ready, self._random, self._steps
        while not done():
            if not ready:
                self._advance()
            index = int(rng() * len(ready))
            job = ready[index]
            ready[index] = ready[-1]
            ready.pop()
            if job.stopped or ((owner := job.owner) is not None and not owner.alive):
                continue
            if next(steps) > STEPS_MAX:
                raise LivelockError(f"no rest after {STEPS_MAX} steps")
            job.context.run(job.callback, *job.arguments)

    def _advance(self) -> None:
        """Move time to the next timer that matters, and make ready all that is due then."""
        timers = self._timers
        ready = self._ready
        while timers and not ready:
            now = timers[0][0]
            if now > self.now:
                self.now = now
            else:
                now = self.now
            while timers and timers[0][0] <= now:
                job = heapq.heappop(timers)[2]
                if not job.stopped and (job.owner is None or job.owner.alive):
                    ready.append(job)
        if not ready:
            raise DeadlockError("nothing is ready and no timer is set")


def virtual_loop(rng: random.Random) -> VirtualLoop:
    """A new loop at virtual second 0."""
    return VirtualLoop(rng)  # type: ignore[abstract]  # what it leaves out raises NotImplementedError


def _end(coroutine: Any) -> None:
    """Close a coroutine, also one whose `finally` blocks wait for something, or find nothing there any more."""
    for _ in range(CLOSE_TRIES):
        try:
            coroutine.close()
        except Exception:  # noqa: BLE001, S112  # it is closed again, for all that its `finally` blocks raise
            continue
        return


EPOCH_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: a simulation has no today."""


class VirtualClock:
    """The loop's time. `skew_ms` is how far this machine's wall clock is off; it may jump."""

    def __init__(self, loop: VirtualLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._epoch_ms = EPOCH_MS + skew_ms

    def monotonic(self) -> float:
        return self._loop.now

    def wall_ms(self) -> int:
        return self._epoch_ms + int(self._loop.now * 1000)

    def jump(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._epoch_ms += by_ms

    async def sleep(self, seconds: float) -> None:
        """As asyncio's."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = self._loop.create_future()
        job = self._loop.call_later(seconds, _rings, future)
        try:
            await future
        finally:
            job.stopped = True


def _rings(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
