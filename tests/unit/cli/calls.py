"""Calling the command line in this process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from orderflow.cli import main

ORDER_ID = "01981c5e-7a40-7000-8000-0123456789ab"
NOBODY = "http://127.0.0.1:9"
"""Port 9 (discard): nothing listens there on a machine of today."""


def call(home: Path, *arguments: str, typed: str | None = None, **settings: str) -> Result:
    """Run `orderflow ARGUMENTS` on a home of its own; settings by their names in capitals, without ORDERFLOW_.

    A folder that is no home yet gets a file of settings, which makes it one. `typed` is what the person types.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "orderflow.toml").touch()
    environment = {f"ORDERFLOW_{name}": value for name, value in settings.items()}
    environment["ORDERFLOW_HOME"] = str(home)
    return CliRunner(env=environment).invoke(main, list(arguments), input=typed)
