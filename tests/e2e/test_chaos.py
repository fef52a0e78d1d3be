"""Two minutes of chaos on Kafka, with every kind of fault, by the command that anyone can run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from orderflow.chaos.plan import KINDS

TIMEOUT_S = 1800.0


def test_nothing_is_lost_doubled_reordered_or_adrift_whatever_breaks(tmp_path: Path) -> None:
    home, report = tmp_path / "home", tmp_path / "report"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "orderflow", "chaos", "--minutes", "2", "--kafka", "--rate", "15"),
            *("--home", str(home), "--report", str(report)),
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((report / "report.json").read_text())
    happened = {each["planned"]["kind"] for each in found["faults"] if each["done"]}
    assert happened >= set(KINDS) - set(found["left_out"])
    assert found["orders"]["by_answer"]["ok"] > 0
