"""Runs a seed: orders under faults, then everything heals, comes to rest, and the audit has its say.

It is asked twice: before the healing, for what holds at every moment, and at rest, for everything. The world of a
failing seed is made smaller as long as it still fails: what is left is what it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from orderflow.audit.findings import Report
from orderflow.audit.promises import check
from orderflow.core.circuit_breaker import GONE_S
from orderflow.simulation.books import read_books
from orderflow.simulation.loop import DeadlockError, LivelockError
from orderflow.simulation.operators import Operators
from orderflow.simulation.plan import WorldPlan, draw, name_of
from orderflow.simulation.process import Code
from orderflow.simulation.shop import Promised, Shops
from orderflow.simulation.troubles import Troubles
from orderflow.simulation.world import Trace, World

REST_WITHIN_S = 120.0
HEALTHY_WITHIN_S = 15.0
OVER_WITHIN_S = GONE_S
LOOK_EVERY_S = 0.1
TAIL = 60


@dataclass(frozen=True, slots=True)
class SeedResult:
    """How a seed ended. `broken` says in sentences what was not as promised; empty: all was well. `coverage` is what
    has happened (see there), `events` how many were appended to the log.
    """

    plan: WorldPlan
    report: Report
    broken: tuple[str, ...]
    trace: Trace
    virtual_s: float
    coverage: frozenset[str]
    events: int

    def explain(self) -> str:
        """For people: what was broken, how it came about, and how to see it again."""
        lines = [
            f"seed {name_of(self.plan)}: {len(self.broken)} broken",
            *(f"  {sentence}" for sentence in self.broken),
            f"the world: {self.plan.describe()}",
            f"the last of {len(self.trace)} steps, digest {self.trace.digest()}:",
            *(f"  {line}" for line in self.trace.lines(TAIL)),
            f"replay: {self.replay}",
        ]
        return "\n".join(lines)

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        return f"orderflow simulate --seed {name_of(self.plan)}"


def run(seed: int, code: Code | None = None) -> SeedResult:
    """Run the world of a seed. The same seed and code give the same run."""
    return run_plan(draw(seed), code)


def run_plan(plan: WorldPlan, code: Code | None = None) -> SeedResult:
    """Run one world."""
    world = World(plan, code or Code())
    shops = Shops(world)
    try:
        world.loop.run_until_complete(_live(world, shops))
    except (DeadlockError, LivelockError) as error:
        world.defects.append(f"{type(error).__name__}: {error}")
    try:
        return _judge(world, shops.promised)
    finally:
        world.loop.close()


async def _live(world: World, shops: Shops) -> None:
    operators = Operators(world)
    world.start()
    await shops.fill()
    await asyncio.sleep(world.plan.idle_s)
    world.troubled = True
    troubles = asyncio.ensure_future(Troubles(world, shops, operators).bring())
    ordering = asyncio.ensure_future(shops.open())
    await asyncio.sleep(world.plan.troubled_s)
    await troubles
    if world.plan.is_local:
        await ordering
        await _neighbours_flow(world, shops.promised)
    books = read_books(world.databases, world.bank, world.lag())
    world.defects += [f"under way: {finding}" for finding in check(books, at_rest=False).findings]
    world.heal()
    await ordering
    await _rest(world)
    if world.plan.reuses_keys:
        await shops.ask_again()
        await _rest(world)
    if world.plan.operators:
        await operators.look_after_all()
        await _rest(world)
    await _recovered(world)


async def _neighbours_flow(world: World, promised: Promised) -> None:
    """Promise 4, while what befell some orders lasts: the others come to their end."""
    left: list[str] = []
    for _ in range(round(world.plan.neighbours_within_s / LOOK_EVERY_S)):
        spared = [each for each in promised.accepted if each not in world.befallen]
        left = [each for each in spared if not world.model.has_ended(each)]
        if not left:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    world.defects += [f"promise 4: {order_id} is held up by what befell others" for order_id in left]


async def _recovered(world: World) -> None:
    """Nothing hinders anybody any more, and health says so: at once, or when nothing of an outage has come up for the
    time after which it is over.
    """
    for within_s in (HEALTHY_WITHIN_S, OVER_WITHIN_S):
        for _ in range(round(within_s / LOOK_EVERY_S)):
            if not world.problems():
                return
            await asyncio.sleep(LOOK_EVERY_S)
        if not world.may_be_elsewhere():
            break
    world.defects += [f"at rest, and yet {problem}" for problem in world.problems()]


async def _rest(world: World) -> None:
    for _ in range(round(REST_WITHIN_S / LOOK_EVERY_S)):
        if world.at_rest():
            return
        await asyncio.sleep(LOOK_EVERY_S)


def _judge(world: World, promised: Promised) -> SeedResult:
    books = read_books(world.databases, world.bank, world.lag())
    report = check(books, at_rest=True, accepted=promised.accepted)
    for order in books.orders:
        if not order.parked:
            world.model.at_rest(order.order_id)
    broken = (
        *map(str, report.findings),
        *promised.contradictions,
        *world.model.broken,
        *world.defects,
        *world.key_order.broken(world.log),
        *(f"nobody retrieved: {error}" for error in world.loop.errors),
    )
    return SeedResult(
        plan=world.plan,
        report=report,
        broken=broken,
        trace=world.trace,
        virtual_s=world.loop.time(),
        coverage=frozenset(world.coverage.seen),
        events=world.events,
    )


TRIES_MAX = 80


def shrunk(failing: SeedResult, code: Code | None = None) -> SeedResult:
    """The smallest failing world that was found; `failing` itself if none smaller fails. Always the same one."""
    smallest, tries = failing, 0
    while True:
        for plan in smaller(smallest.plan):
            tries += 1
            if tries > TRIES_MAX:
                return smallest
            candidate = run_plan(plan, code)
            if candidate.broken:
                smallest = candidate
                break
        else:
            return smallest


def smaller(plan: WorldPlan) -> Iterator[WorldPlan]:
    """The plan with one thing less, the most telling first."""
    for orders in dict.fromkeys((1, plan.orders // 2, plan.orders - 1)):
        if 0 < orders < plan.orders:
            yield replace(plan, orders=orders)
    for place in range(len(plan.troubles)):
        yield replace(plan, troubles=plan.troubles[:place] + plan.troubles[place + 1 :])
    for fault in plan.faults:
        rest = tuple(each for each in plan.faults if each is not fault)
        yield replace(plan, faults=rest, focus=plan.focus if rest else "")
    for service, count in plan.processes.items():
        if count > 1:
            yield replace(plan, processes={**plan.processes, service: 1})
    if plan.partitions > 1:
        yield replace(plan, partitions=1)
    if plan.operators:
        yield replace(plan, operators=False)
