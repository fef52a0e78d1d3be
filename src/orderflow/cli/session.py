"""What every command is given: where it looks for its settings, and how it answers."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from orderflow.cli.output import Output
from orderflow.settings import Settings

if TYPE_CHECKING:
    from orderflow.cli.http import ServiceClient

P = ParamSpec("P")


class Session:
    """One run of a command. `settings` and `running` raise SettingsError when they are first asked for."""

    def __init__(self, home: Path | None, as_json: bool) -> None:
        self._home = home
        self.out = Output(as_json=as_json)

    @cached_property
    def settings(self) -> Settings:
        return Settings.load(environ=os.environ, home=self._home)

    @cached_property
    def running(self) -> Settings:
        """The settings, with the addresses of what runs on this home."""
        from orderflow.cli.running import as_running

        return as_running(self.settings)

    def client(self, service: str) -> ServiceClient:
        """The caller closes it."""
        from orderflow.cli.http import ServiceClient

        return ServiceClient(service, self.running.service_url(service))


def session_options(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Add --home and --json, and hand the command its session first."""

    @functools.wraps(command)
    def with_session(*, home: Path | None, as_json: bool, **given: Any) -> None:
        command(Session(home, as_json), **given)  # type: ignore[call-arg]

    as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
    home = click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of data, logs and settings [ORDERFLOW_HOME, or .orderflow here].",
    )
    return home(as_json(with_session))
