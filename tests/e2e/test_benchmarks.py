"""The benchmarks run, on small sizes: what they say of speed is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_quick_benchmark_gives_every_figure_and_keeps_the_promises() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--transport", "postgres", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout)["figures"]
    assert figures["promises_kept"]
    assert figures["ratio"] > 0
    assert figures["consume"]["consume"] > 0
    assert figures["consume_poison"] > 0
    assert [len(rates) for rates in figures["parked"]["rates"]] == [1, 1]
    assert all(figures["parked"]["p99_ms"])
    assert figures["command_ms"] > 0
    assert {rate: len(rounds) for rate, rounds in figures["latencies"].items()} == {"50": 1, "200": 1}
    assert figures["idle"]["services_mb"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_what_the_checks_at_the_door_cost_can_be_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.checks", "--rounds", "2", "--orders", "100"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    figures = json.loads(done.stdout or "{}")
    assert figures.keys() == {"with_ms", "without_ms", "share"}, done.stderr
    assert figures["without_ms"] > 0
    assert done.returncode == (0 if figures["share"] <= 0.05 else 1)


def test_without_the_commit_of_the_older_release_a_sentence_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--against", "f" * 40],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"there is no commit {'f' * 40} here")
    assert "--against none" in done.stderr
