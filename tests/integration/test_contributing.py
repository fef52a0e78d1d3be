"""What CONTRIBUTING.md tells people to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "CONTRIBUTING.md"
PREPARING = ("python3 bootstrap.py --dev", ". .venv/bin/activate")
"""What has been done before any test runs."""
OURSELVES = ("./check.sh", "./run_tests.sh")
"""What runs this test."""


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]


def test_the_page_says_how_to_prepare_and_how_to_check_everything() -> None:
    assert [each for each in (*PREPARING, *OURSELVES) if each not in commands()] == []
    assert [each for each in OURSELVES if not os.access(PROJECT / each, os.X_OK)] == []


@pytest.mark.parametrize("command", [each for each in commands() if each not in (*PREPARING, *OURSELVES)])
def test_a_command_of_the_page_ends_well(command: str) -> None:
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        command,
        shell=True,
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
