"""A whole system on a home of its own, and the command line that a person would use on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orderflow.cli.session import as_running
from orderflow.cli.topic import open_log
from orderflow.core.transport import ProducerRecord
from orderflow.settings import Settings

TIMEOUT_S = 120


@dataclass(frozen=True)
class System:
    """A home on which everything runs, on ports of its own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
        return {**kept, "ORDERFLOW_HOME": str(self.home)}

    def token(self) -> str:
        """The home's own."""
        return (self.home / "token").read_text(encoding="ascii")

    def call(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orderflow", *arguments],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def ask(self, *arguments: str) -> Any:
        """What a command answers with --json."""
        done = self.call(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def lines(self, *arguments: str) -> list[Any]:
        done = self.call(*arguments, "--json")
        assert done.returncode in (0, 1), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def append(self, *records: ProducerRecord) -> None:
        settings = as_running(Settings.load(environ=self.environment))
        async with open_log(settings) as log:
            await log.append(records)


@contextmanager
def running(home: Path, *options: str, **settings: str | int) -> Iterator[System]:
    """Four services, PostgreSQL, the log kept there; `settings` by their names in the file."""
    home.mkdir()
    ports = {f"{name}_port": 0 for name in ("order", "payment", "inventory", "notification")}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in {**ports, **settings}.items()]
    (home / "orderflow.toml").write_text("".join(lines))
    system = System(home)
    started = system.call("up", "--detach", *options)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield system
    finally:
        system.call("down")
