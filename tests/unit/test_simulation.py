"""The production code of all services in many simulated worlds."""

from __future__ import annotations

import pytest

from orderflow.simulation.run import run

SEEDS = 500
PART = 100


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_the_five_promises_are_kept_in_every_world(first: int) -> None:
    orders = 0
    for seed in range(first, first + PART):
        result = run(seed)
        assert not result.broken, result.explain()
        orders += result.report.orders
    assert orders > PART
