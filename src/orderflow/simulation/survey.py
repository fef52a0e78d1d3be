"""Looks at many worlds, side by side in processes of its own, steered or one seed after the other.

Steering does as fuzzers do: plans that showed something new are kept, and lived again with another order of events,
or with one or two things changed. What is rare is chosen more often (AFL, libFuzzer's "entropic"; here over whole
worlds).
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from typing import Any

from orderflow.core.engine import EngineConfig
from orderflow.simulation.loop import seeded
from orderflow.simulation.plan import SERVICES, STEPS, ProcessFault, Trouble, WorldPlan, draw, name_of
from orderflow.simulation.run import SeedResult, run_plan

FRESH_SHARE = 0.5
CANDIDATES = 12
KEPT_OF_EACH = 4
RARE_MAX = 8
"""What more worlds than that have shown is not looked for any more."""

TROUBLES_MAX = 6


class Steering:
    """`start` is the first fresh seed. The same start and the same answers give the same worlds."""

    def __init__(self, start: int, fresh_share: float = FRESH_SHARE) -> None:
        self.counts: Counter[str] = Counter()
        """In how many worlds each thing has happened."""
        self._fresh = start
        self._fresh_share = fresh_share
        self._rng = seeded(start, "steering")
        self._shown_by: dict[str, list[WorldPlan]] = {}
        self._rare: list[str] = []

    def next(self) -> WorldPlan:
        """The next world to look at."""
        if not self._rare or self._rng.random() < self._fresh_share:
            self._fresh += 1
            return draw(self._fresh - 1)
        return relative(self._rng.choice(self._shown_by[self._rarest()]), self._rng)

    def learn(self, plan: WorldPlan, coverage: Collection[str]) -> None:
        """What has happened in a world."""
        for what in sorted(coverage):
            self.counts[what] += 1
            if what not in self._shown_by:
                self._rare.append(what)
            plans = self._shown_by.setdefault(what, [])
            if len(plans) < KEPT_OF_EACH:
                plans.append(plan)

    def _rarest(self) -> str:
        """The rarest of some; what has become common is forgotten as it comes up."""
        found = ""
        for _ in range(CANDIDATES):
            place = self._rng.randrange(len(self._rare))
            what = self._rare[place]
            if self.counts[what] > RARE_MAX and len(self._rare) > 1:
                self._rare[place] = self._rare[-1]
                self._rare.pop()
            elif not found or self.counts[what] < self.counts[found]:
                found = what
        return found or self._rare[0]


def relative(plan: WorldPlan, rng: random.Random) -> WorldPlan:
    """The plan in another order of events, and most often with one or two things changed."""
    plan = replace(plan, seed=rng.randrange(2**32))
    for _ in range(rng.choice((0, 1, 1, 2))):
        plan = rng.choice(CHANGES)(plan, rng)
    return plan


def _orders(plan: WorldPlan, rng: random.Random) -> WorldPlan:
    return replace(plan, orders=max(1, min(14, plan.orders + rng.choice((-2, -1, 1, 2, 4)))))


def _faults(plan: WorldPlan, rng: random.Random) -> WorldPlan:
    faults = set(plan.faults) ^ {rng.choice(list(ProcessFault))}
    return replace(plan, faults=tuple(sorted(faults)), focus=plan.focus if faults else "")


def _focus(plan: WorldPlan, rng: random.Random) -> WorldPlan:
    return replace(plan, focus=rng.choice(STEPS), faults=plan.faults or (rng.choice(list(ProcessFault)),))


def _troubles(plan: WorldPlan, rng: random.Random) -> WorldPlan:
    troubles = list(plan.troubles)
    if troubles and rng.random() < 0.4:
        troubles.pop(rng.randrange(len(troubles)))
    if len(troubles) < TROUBLES_MAX and rng.random() < 0.7:
        troubles.append(rng.choice(list(Trouble)))
    return replace(plan, troubles=tuple(troubles))


def _processes(plan: WorldPlan, rng: random.Random) -> WorldPlan:
    name = rng.choice(SERVICES)
    return replace(plan, processes={**plan.processes, name: 3 - plan.processes[name]})


def _one_of(name: str, *values: Any) -> Callable[[WorldPlan, random.Random], WorldPlan]:
    def change(plan: WorldPlan, rng: random.Random) -> WorldPlan:
        return replace(plan, **{name: rng.choice(values)})

    return change


def _setting(name: str, *values: int) -> Callable[[WorldPlan, random.Random], WorldPlan]:
    def change(plan: WorldPlan, rng: random.Random) -> WorldPlan:
        config: EngineConfig = replace(plan.config, **{name: rng.choice(values)})  # type: ignore[arg-type]
        return replace(plan, config=config)

    return change


CHANGES = (
    _orders,
    _faults,
    _focus,
    _troubles,
    _troubles,
    _processes,
    _one_of("partitions", 1, 2, 3),
    _one_of("at_once", False, True),
    _one_of("varied", False, True),
    _one_of("commit_late", False, True),
    _one_of("narrow", False, True),
    _one_of("haste", 0.0, 0.5, 0.8),
    _one_of("operators", False, True),
    _one_of("out_of_stock", 0.1, 0.5, 0.9),
    _one_of("fault_every", 10.0, 25.0, 60.0, 150.0),
    _setting("batch_max", 1, 2, 5, 500),
    _setting("attempts_max", 2, 6),
    _setting("outbox_slots", 1, 4),
    _setting("command_queue_max", 2, 4096),
)


CHUNK = 8
AHEAD = 2


@dataclass(frozen=True, slots=True)
class Sight:
    """What is told of one world. `explained` is for people, and "" where nothing was broken."""

    plan: WorldPlan
    name: str
    broken: tuple[str, ...]
    explained: str
    coverage: frozenset[str]
    orders: int
    events: int
    steps: int
    virtual_s: float


def sight_of(run: SeedResult) -> Sight:
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


def look(plans: Sequence[WorldPlan]) -> list[Sight]:
    """Live these worlds, and collect garbage after each: while it lives nearly all that is made is still needed, so
    that looking for garbage would cost a quarter of the time; and so it would after several, which no cache holds.
    """
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return [_sight(plan) for plan in plans]
    finally:
        if is_collecting:
            gc.enable()


def _sight(plan: WorldPlan) -> Sight:
    sight = sight_of(run_plan(plan))
    gc.collect()
    return sight


def survey(more: Callable[[], Sequence[WorldPlan]], jobs: int) -> Iterator[Sight]:
    """Live the worlds that `more` names, some at a time, until it names none; `jobs` processes are busy with it.

    They are told in the order in which they were named, whoever is done first: with the same number of jobs, a `more`
    that follows what it hears names the same ones again. Left early, it waits for no more than a few worlds.
    """
    if jobs == 1:
        gc.freeze()
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
    pool = ProcessPoolExecutor(jobs, _context(), _begin)
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


def _begin() -> None:
    """Ctrl-C is for the one that shows what comes of it. What was imported is no garbage, and not looked at again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()


def _end_with_parent() -> None:
    """Whoever asked for worlds was killed: nobody would ever tell this process to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def processors() -> int:
    """How many jobs the machine can do at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
