"""A wall clock that jumps in Python programs, and a monotonic one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from orderflow.chaos import clocks

ASK = "import time; print(time.time(), time.time_ns() / 1e9, time.monotonic())"


def test_the_wall_clock_is_off_and_the_monotonic_is_not(tmp_path: Path) -> None:
    clock = clocks.of_python(tmp_path / "clock")
    clock.set(-600)
    before = time.time(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, **clock.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    wall, wall_ns, monotonic = map(float, done.stdout.split())

    assert 0 <= wall + 600 - before[0] < 60
    assert 0 <= wall_ns + 600 - before[0] < 60
    assert 0 <= monotonic - before[1] < 60
