"""Makes the world of a failing seed smaller, as long as it still fails: what is left is what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orderflow.simulation.code import Code
from orderflow.simulation.plan import Plan
from orderflow.simulation.run import Run, run_plan

TRIES_MAX = 80


def shrunk(failing: Run, code: Code | None = None) -> Run:
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


def smaller(plan: Plan) -> Iterator[Plan]:
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
