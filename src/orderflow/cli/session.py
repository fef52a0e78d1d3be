"""What every command is given: where it looks for its settings, and how it answers."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from orderflow.cli.output import Output
from orderflow.settings import Settings

P = ParamSpec("P")


class Session:
    """One run of a command. `settings` raises SettingsError when it is first asked for."""

    def __init__(self, home: Path | None, as_json: bool) -> None:
        self._home = home
        self.out = Output(as_json=as_json)

    @cached_property
    def settings(self) -> Settings:
        return Settings.load(environ=os.environ, home=self._home)


def session_options(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Add --home and --json, and hand the command its session first."""

    @functools.wraps(command)
    def with_session(*, home: Path | None, as_json: bool, **given: Any) -> None:
        command(Session(home, as_json), **given)  # type: ignore[call-arg]

    as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
    home = click.option(
        "--home",
        type=click.Path(path_type=Path),
        help="Folder with orderflow.toml and the data.  [env: ORDERFLOW_HOME; default: .orderflow]",
    )
    return home(as_json(with_session))
