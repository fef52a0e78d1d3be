"""Dockerfile and compose.yaml, as far as they can be checked without a container engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
        ("hadolint", "Dockerfile"),
    ],
    ids=["compose.yaml fits the Compose specification", "the Dockerfile is in good practice"],
)
def test_container_files_pass_their_checker(command: tuple[str, ...]) -> None:
    checked = subprocess.run(
        [SCRIPTS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_runs_every_service_and_publishes_on_loopback_only() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")

    for name, port in (("order", 8001), ("payment", 8002), ("inventory", 8003), ("notification", 8004)):
        assert f"command: [run, {name}]" in text
        assert f'ports: ["127.0.0.1:{port}:{port}"]' in text
    assert text.count("ports:") == 4
