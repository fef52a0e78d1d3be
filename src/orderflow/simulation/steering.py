"""Which worlds to look at next: fresh ones, and relatives of those that showed what few others have shown.

As fuzzers do: plans that showed something new are kept, and lived again with another order of events, or with one or
two things changed. What is rare is chosen more often (AFL, libFuzzer's "entropic"; here over whole worlds).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from orderflow.messaging.engine_config import EngineConfig
from orderflow.simulation.chance import seeded
from orderflow.simulation.plan import SERVICES, Fault, Plan, Trouble, draw
from orderflow.simulation.steps import STEPS

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
        self._chance = seeded(start, "steering")
        self._shown_by: dict[str, list[Plan]] = {}
        self._rare: list[str] = []

    def next(self) -> Plan:
        """The next world to look at."""
        if not self._rare or self._chance.random() < self._fresh_share:
            self._fresh += 1
            return draw(self._fresh - 1)
        return relative(self._chance.choice(self._shown_by[self._rarest()]), self._chance)

    def learn(self, plan: Plan, coverage: Collection[str]) -> None:
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
            place = self._chance.randrange(len(self._rare))
            what = self._rare[place]
            if self.counts[what] > RARE_MAX and len(self._rare) > 1:
                self._rare[place] = self._rare[-1]
                self._rare.pop()
            elif not found or self.counts[what] < self.counts[found]:
                found = what
        return found or self._rare[0]


def relative(plan: Plan, chance: random.Random) -> Plan:
    """The plan in another order of events, and most often with one or two things changed."""
    plan = replace(plan, seed=chance.randrange(2**32))
    for _ in range(chance.choice((0, 1, 1, 2))):
        plan = chance.choice(CHANGES)(plan, chance)
    return plan


def _orders(plan: Plan, chance: random.Random) -> Plan:
    return replace(plan, orders=max(1, min(14, plan.orders + chance.choice((-2, -1, 1, 2, 4)))))


def _faults(plan: Plan, chance: random.Random) -> Plan:
    faults = set(plan.faults) ^ {chance.choice(list(Fault))}
    return replace(plan, faults=tuple(sorted(faults)), focus=plan.focus if faults else "")


def _focus(plan: Plan, chance: random.Random) -> Plan:
    return replace(plan, focus=chance.choice(STEPS), faults=plan.faults or (chance.choice(list(Fault)),))


def _troubles(plan: Plan, chance: random.Random) -> Plan:
    troubles = list(plan.troubles)
    if troubles and chance.random() < 0.4:
        troubles.pop(chance.randrange(len(troubles)))
    if len(troubles) < TROUBLES_MAX and chance.random() < 0.7:
        troubles.append(chance.choice(list(Trouble)))
    return replace(plan, troubles=tuple(troubles))


def _processes(plan: Plan, chance: random.Random) -> Plan:
    name = chance.choice(SERVICES)
    return replace(plan, processes={**plan.processes, name: 3 - plan.processes[name]})


def _one_of(name: str, *values: Any) -> Callable[[Plan, random.Random], Plan]:
    def change(plan: Plan, chance: random.Random) -> Plan:
        return replace(plan, **{name: chance.choice(values)})

    return change


def _setting(name: str, *values: int) -> Callable[[Plan, random.Random], Plan]:
    def change(plan: Plan, chance: random.Random) -> Plan:
        config: EngineConfig = replace(plan.config, **{name: chance.choice(values)})  # type: ignore[arg-type]
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
    _one_of("settle_late", False, True),
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
