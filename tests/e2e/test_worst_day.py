"""The worst day as the example tells it: a poison order and a database away, then nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orderflow.local.processes import free_port
from tests.support import kafka

SCRIPT = Path(__file__).parents[2] / "examples" / "worst-day.sh"


@pytest.mark.parametrize("options", [pytest.param((), id="postgres-log"), pytest.param(("--kafka",), id="kafka")])
def test_one_order_is_stuck_all_others_end_and_a_replay_mends_it(options: tuple[str, ...]) -> None:
    missing = kafka.missing() if options else None
    if missing:
        pytest.skip(f"no Apache Kafka: {missing}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
    done = subprocess.run(
        ["bash", SCRIPT, "--orders", "300", "--away", "5", *options],
        env={
            **clean,
            "PYTHON": sys.executable,
            "ORDERFLOW_RETRY_FIRST_MS": "200",
            "ORDERFLOW_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
