"""The same seed is the same world: in this process, in another one, and with another hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orderflow.simulation.run import run

SEEDS = range(40)
PROGRAM = """
from orderflow.simulation.run import run
for seed in range(40):
    print(run(seed).trace.digest())
"""


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in SEEDS:
        first, second = run(seed), run(seed)
        assert first.trace.lines() == second.trace.lines()
        assert first.trace.digest() == second.trace.digest()


def test_different_seeds_give_different_traces() -> None:
    assert len({run(seed).trace.digest() for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_another_process_gives_the_same_traces(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.split() == [run(seed).trace.digest() for seed in SEEDS]
