"""What every command is given: where it looks for its settings, and how it answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from orderflow.cli.options import home_option, load_settings
from orderflow.cli.output import Output
from orderflow.cli.short_ids import resolved
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
    def given(self) -> Settings:
        """The settings, whatever the home runs on."""
        return load_settings(self._home, remember=False)

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self._home)

    @cached_property
    def running(self) -> Settings:
        """The settings, with the addresses of what runs on this home."""
        from orderflow.cli.running import as_running

        return as_running(self.settings)

    def client(self, service: str) -> ServiceClient:
        """The caller closes it. Raises UnreachableError: nothing has run on this home yet."""
        from orderflow.cli.running import client_of

        return client_of(self.running, service)


def session_options(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Add --home and --json, and hand the command its session first."""

    @functools.wraps(command)
    def with_session(*, home: Path | None, as_json: bool, **given: Any) -> None:
        session = Session(home, as_json)
        # Whatever the command asks for: a home that is named must be one.
        _ = session.given
        whole = {name: resolved(session, value) for name, value in given.items()}
        command(session, **whole)  # type: ignore[call-arg]

    as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
    return home_option(as_json(with_session))
