"""Runs a seed: orders under faults, then everything heals, comes to rest, and the audit has its say.

It is asked twice: before the healing, for what holds at every moment, and at rest, for everything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from orderflow.audit.findings import Report
from orderflow.audit.promises import check
from orderflow.simulation.books import read_books
from orderflow.simulation.code import Code
from orderflow.simulation.plan import Plan, draw
from orderflow.simulation.shop import Promised, Shops
from orderflow.simulation.trace import Trace
from orderflow.simulation.troubles import Troubles
from orderflow.simulation.world import World

REST_WITHIN_S = 120.0
LOOK_EVERY_S = 0.1
TAIL = 60


@dataclass(frozen=True, slots=True)
class Run:
    """How a seed ended. `broken` says in sentences what was not as promised; empty: all was well."""

    plan: Plan
    report: Report
    broken: tuple[str, ...]
    trace: Trace
    virtual_s: float

    def explain(self) -> str:
        """For people: what was broken, how it came about, and how to see it again."""
        lines = [
            f"seed {self.plan.seed}: {len(self.broken)} broken",
            *(f"  {sentence}" for sentence in self.broken),
            f"the world: {self.plan.describe()}",
            f"the last of {len(self.trace)} steps, digest {self.trace.digest()}:",
            *(f"  {line}" for line in self.trace.lines(TAIL)),
            f"replay: python -m orderflow.simulation --seed {self.plan.seed}",
        ]
        return "\n".join(lines)


def run(seed: int, code: Code | None = None) -> Run:
    """Run the world of a seed. The same seed and code give the same run."""
    world = World(draw(seed), code or Code())
    shops = Shops(world)
    try:
        world.loop.run_until_complete(_live(world, shops))
        return _judge(world, shops.promised)
    finally:
        world.loop.close()


async def _live(world: World, shops: Shops) -> None:
    world.start()
    await shops.fill()
    world.troubled = True
    troubles = asyncio.ensure_future(Troubles(world, shops.promised).bring())
    ordering = asyncio.ensure_future(shops.open())
    await asyncio.sleep(world.plan.troubled_s)
    await troubles
    books = read_books(world.databases, world.bank, world.lag())
    world.defects += [f"under way: {finding}" for finding in check(books, at_rest=False).findings]
    world.heal()
    await ordering
    for _ in range(round(REST_WITHIN_S / LOOK_EVERY_S)):
        if world.at_rest():
            return
        await asyncio.sleep(LOOK_EVERY_S)


def _judge(world: World, promised: Promised) -> Run:
    books = read_books(world.databases, world.bank, world.lag())
    report = check(books, at_rest=True, accepted=promised.accepted)
    broken = (
        *map(str, report.findings),
        *promised.contradictions,
        *world.defects,
        *world.key_order.broken(world.log),
        *(f"nobody retrieved: {error}" for error in world.loop.errors),
    )
    return Run(world.plan, report, broken, world.trace, world.loop.time())
