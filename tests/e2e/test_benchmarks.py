"""The benchmarks run, on small sizes: what they say of speed is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quick_benchmark_gives_every_figure_and_keeps_the_promises() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--transport", "postgres", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout)
    assert figures["promises_kept"]
    assert figures["ratio"] > 0
    assert figures["consume"] > 0
    assert figures["consume_poison"] > 0
    assert [len(rates) for rates in figures["parked"]["rates"]] == [1, 1]
    assert all(figures["parked"]["p99_ms"])
    assert [each["rate"] for each in figures["latencies"]] == [50, 200]
    assert figures["idle"]["services_mb"] > 0
