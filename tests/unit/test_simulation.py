"""The five promises hold in every world that the first seeds make."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from orderflow.simulation.plan import WorldPlan, draw
from orderflow.simulation.survey import CHUNK, processors, survey

SEEDS = 500
PART = 100


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_the_five_promises_are_kept_in_every_world(first: int) -> None:
    orders = 0
    for sight in survey(_plans(first, first + PART), processors()):
        assert not sight.broken, sight.explained
        orders += sight.orders
    assert orders > PART


def _plans(first: int, end: int) -> Callable[[], Sequence[WorldPlan]]:
    chunks = iter([range(start, min(start + CHUNK, end)) for start in range(first, end, CHUNK)])
    return lambda: [draw(seed) for seed in next(chunks, ())]
