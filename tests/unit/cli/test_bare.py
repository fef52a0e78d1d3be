"""Every command of the tree without any argument: a group tells what there is, a command what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orderflow.cli import main
from tests.unit.cli.calls import call

Words = tuple[str, ...]


def tree(command: click.Command = main, path: Words = ()) -> Iterator[tuple[Words, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from tree(inner, (*path, name))


COMMANDS = dict(tree())
GROUPS = [path for path, command in COMMANDS.items() if isinstance(command, click.Group)]
WANTING = [path for path, command in COMMANDS.items() if any(each.required for each in command.params)]


def test_the_tree_is_walked() -> None:
    assert {(), ("order",), ("dlt",), ("outbox",)} <= set(GROUPS)
    assert {("run",), ("order", "show"), ("fault", "add")} <= set(WANTING)


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_bare_group_is_its_help_and_no_error(path: Words, tmp_path: Path) -> None:
    bare = call(tmp_path, *path)
    assert (bare.exit_code, bare.stderr) == (0, "")
    assert bare.stdout == call(tmp_path, *path, "--help").stdout


@pytest.mark.parametrize("path", WANTING, ids=" ".join)
def test_a_bare_command_that_wants_more_says_so_in_one_plain_line(path: Words, tmp_path: Path) -> None:
    bare = call(tmp_path, *path)
    assert (bare.exit_code, bare.stdout) == (2, "")
    error = bare.stderr.splitlines()[-1]
    assert error.startswith("Error: Missing ")
    assert "\\" not in error
