"""Everything that this machine can run: the checks, then all layers of tests, quick ones first.

    ./run_tests.sh                  everything
    ./run_tests.sh tests/unit -x    these tests only, with options of pytest, without the checks

Ends with the closing line of pytest and its exit code; with 1, before any test, when a check fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from scripts import check
from scripts.check import PROJECT, say

LAYERS = ("unit", "conformance", "integration", "simulation", "e2e")


def main(arguments: Sequence[str]) -> int:
    if not arguments and check.main(()) != 0:
        return 1
    tell_of_kafka()
    paths = [f"tests/{layer}" for layer in LAYERS if (PROJECT / "tests" / layer).is_dir()]
    chosen = list(arguments) or [*paths, "--no-header", "--durations=10", "--durations-min=2"]
    return int(pytest.main(chosen))


def tell_of_kafka() -> None:
    """In one line, whether the tests of Kafka run."""
    from orderflow.local.kafka import java

    missing = java.missing()
    if missing is None:
        say("kafka: its tests run on a real broker of this machine")
    else:
        say(f"kafka: its tests are skipped: {missing}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
