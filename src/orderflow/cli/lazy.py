"""A group of commands of which only the one that runs is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from orderflow.local.errors import LocalError
from orderflow.settings.errors import SettingsError


class LazyGroup(click.Group):
    """`commands_by_name` maps a command to `module:attribute`.

    Errors that are written for people end the program with their sentence and exit code 1.
    """

    def __init__(self, *, commands_by_name: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._targets = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self._targets.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LocalError, SettingsError) as error:
            raise click.ClickException(str(error)) from error
