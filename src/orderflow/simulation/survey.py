"""Looks at many worlds, side by side in processes of its own, steered or one seed after the other."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext

from orderflow.simulation.plan import Plan
from orderflow.simulation.plan_text import name_of
from orderflow.simulation.run import Run, run_plan

CHUNK = 8
CHUNKS_A_LIFE = 12
"""Garbage is not collected in a process that looks at worlds: it ends soon, and another goes on."""

AHEAD = 2


@dataclass(frozen=True, slots=True)
class Sight:
    """What is told of one world. `explained` is for people, and "" where nothing was broken."""

    plan: Plan
    name: str
    broken: tuple[str, ...]
    explained: str
    coverage: frozenset[str]
    orders: int
    events: int
    steps: int
    virtual_s: float


def sight_of(run: Run) -> Sight:
    """What is told of a run to another process."""
    return Sight(
        plan=run.plan,
        name=name_of(run.plan),
        broken=run.broken,
        explained=run.explain() if run.broken else "",
        coverage=run.coverage,
        orders=run.report.orders,
        events=run.events,
        steps=len(run.trace),
        virtual_s=run.virtual_s,
    )


def look(plans: Sequence[Plan]) -> list[Sight]:
    """Live these worlds."""
    return [sight_of(run_plan(plan)) for plan in plans]


def survey(more: Callable[[], Sequence[Plan]], jobs: int) -> Iterator[Sight]:
    """Live the worlds that `more` names, some at a time, until it names none; `jobs` processes are busy with it.

    They are told in the order in which they were named, whoever is done first: with the same number of jobs, a `more`
    that follows what it hears names the same ones again. Left early, it waits for no more than a few worlds.
    """
    if jobs == 1:
        while plans := more():
            yield from look(plans)
        return
    with _pool(jobs) as pool:
        under_way: deque[Future[list[Sight]]] = deque()
        while True:
            while len(under_way) < AHEAD * jobs and (plans := more()):
                under_way.append(pool.submit(look, plans))
            if not under_way:
                return
            yield from under_way.popleft().result()


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    context = _context()
    # A process that comes from the fork server costs milliseconds; one that is spawned imports everything anew.
    lives = CHUNKS_A_LIFE if context.get_start_method() == "forkserver" else None
    pool = ProcessPoolExecutor(jobs, context, _begin, (lives is not None,), max_tasks_per_child=lives)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin(short_lived: bool) -> None:
    """Ctrl-C is for the one that shows what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if short_lived:
        gc.freeze()
        gc.disable()


def processors() -> int:
    """How many jobs the machine can do at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
