"""The production code of all services in many simulated worlds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from orderflow.simulation.run import run

SEEDS = 500
PART = 100
CHUNK = 10


@pytest.fixture(scope="module")
def processors() -> Iterator[ProcessPoolExecutor]:
    """All that the machine has: a world is nothing but computing."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_the_five_promises_are_kept_in_every_world(processors: ProcessPoolExecutor, first: int) -> None:
    orders = 0
    for broken, seen in processors.map(live, range(first, first + PART), chunksize=CHUNK):
        assert not broken, broken
        orders += seen
    assert orders > PART


def live(seed: int) -> tuple[str, int]:
    """What is broken in this world, and how many orders it has seen."""
    result = run(seed)
    return (result.explain() if result.broken else ""), result.report.orders
