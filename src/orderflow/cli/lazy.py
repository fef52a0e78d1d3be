"""A group of commands of which only the one that runs is imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import click

from orderflow.cli.endings import code_of


class Line(NamedTuple):
    """Where a command is (`module:attribute`), and what the list of commands says of it."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """Errors that are written for people end the program with their sentence and their exit code."""

    def __init__(self, *, commands_by_name: Mapping[str, Line], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lines = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        line = self._lines.get(cmd_name)
        if line is None:
            return None
        module, _, attribute = line.target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{line.target} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line.summary) for name, line in self._lines.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, which ends the process; with `standalone_mode` False it returns or raises."""
        given = list(sys.argv[1:] if args is None else args)
        perform = partial(super().main, given, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return perform()
        sys.exit(code_of(perform, given))
