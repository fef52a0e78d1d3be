"""Everything that this machine can run: the checks, then all layers of tests, quick ones first.

    ./run_tests.sh                  everything
    ./run_tests.sh tests/unit -x    these tests only, with options of pytest, without the checks

The layers that need no service run beside those that mostly wait for one. Ends with pytest's closing lines and its
exit code; with 1, before any test, when a check fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import check
from scripts.check import PROJECT, say

ALONE = ("tests/unit", "tests/simulation")
WITH_SERVICES = ("tests/conformance", "tests/integration", "tests/e2e")
OPTIONS = ("--no-header", "--durations=10", "--durations-min=2")
LOOK_EVERY_S = 0.2


def main(arguments: Sequence[str]) -> int:
    if arguments:
        return int(pytest.main(list(arguments)))
    if check.main(()) != 0:
        return 1
    tell_of_kafka()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "said").open("wb") as said:
        command = [sys.executable, "-m", "pytest", *WITH_SERVICES, *OPTIONS]
        services = subprocess.Popen(command, cwd=PROJECT, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603  (ours)
        try:
            alone = int(pytest.main([*ALONE, *OPTIONS]))
            return show(services, Path(said.name)) or alone
        finally:
            services.terminate()
            services.wait()


def show(process: subprocess.Popen[bytes], said: Path) -> int:
    """What the process has said and goes on to say, until it ends; its exit code."""
    with said.open("r", encoding="utf-8", errors="replace") as output:
        while True:
            status = process.poll()
            sys.stdout.write(output.read())
            sys.stdout.flush()
            if status is not None:
                return status
            time.sleep(LOOK_EVERY_S)


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
