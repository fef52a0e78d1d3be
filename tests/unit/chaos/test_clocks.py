"""A wall clock that jumps in Python programs, and a monotonic one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orderflow.chaos import system

ASK = "import time; print(time.time(), time.time_ns() / 1e9, time.monotonic())"
A_MINUTE = 60.0


def asked(environment: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def test_the_wall_clock_is_off_and_the_monotonic_is_not(tmp_path: Path) -> None:
    clock = system.of_python(tmp_path / "clock")
    clock.set(-600)
    before, shifted = asked({}), asked(clock.environment)
    wall, wall_ns, monotonic = (after - was for was, after in zip(before, shifted, strict=True))

    assert 0 <= wall + 600 < A_MINUTE
    assert 0 <= wall_ns + 600 < A_MINUTE
    assert 0 <= monotonic < A_MINUTE
