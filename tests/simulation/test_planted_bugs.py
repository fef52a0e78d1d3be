"""A simulator is worth what it catches: protocol bugs are planted, each is caught within so many seeds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from orderflow.simulation.process import Code
from orderflow.simulation.run import SeedResult, run, shrunk
from tests.simulation.bugs import DedupesApartEngine
from tests.zoo.__main__ import in_simulation
from tests.zoo.inmates import ZOO

SEEDS_MAX = 200
QUICK = (
    "offset-before-the-commit",
    "no-dedupe",
    "overtakes-the-parked",
    "refund-without-guard",
    "payment-always-in-euros",
    "standing-still-is-ready",
    "committed-offsets-never-written",
    "dead-letter-without-headers",
    "outage-holds-the-innocent",
    "key-is-not-locked",
    "key-not-locked",
)
"""Of the zoo, some of each kind that are seen early. `python -m tests.zoo` runs all of it."""


def first_caught(code: Code) -> SeedResult:
    """The first seed that shows the bug; the same world without it keeps all promises."""
    for seed in range(SEEDS_MAX):
        result = run(seed, code)
        if result.broken:
            assert not run(seed).broken
            return result
    raise AssertionError(f"not caught within {SEEDS_MAX} seeds")


def test_dedupe_outside_of_the_transaction_is_caught() -> None:
    assert first_caught(Code(engine=DedupesApartEngine)).broken


def test_planted_bugs_are_caught_early() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(lambda name: in_simulation(ZOO[name], SEEDS_MAX), QUICK))

    assert [verdict.bug.name for verdict in verdicts if not verdict.caught] == []


def test_a_failure_explains_itself_and_says_how_to_see_it_again() -> None:
    caught = first_caught(Code(engine=DedupesApartEngine))
    told = caught.explain()
    assert f"seed {caught.plan.seed}: {len(caught.broken)} broken" in told
    assert caught.broken[0] in told
    assert caught.trace.lines(1)[0] in told
    assert told.endswith(f"replay: orderflow simulate --seed {caught.plan.seed}")


def test_a_failing_world_is_made_smaller_and_still_fails() -> None:
    code = Code(engine=DedupesApartEngine)
    caught = next(
        result for seed in range(SEEDS_MAX) if (result := run(seed, code)).broken and result.plan.orders > 2
    )
    small = shrunk(caught, code)
    assert small.broken
    assert small.plan.orders < caught.plan.orders
    assert small.trace.digest() == shrunk(caught, code).trace.digest()
