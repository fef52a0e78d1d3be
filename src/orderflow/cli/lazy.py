"""Commands of which only the one that runs is imported, and how every run ends: in an exit code, and one sentence."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NamedTuple

import click
from click.exceptions import NoArgsIsHelpError

from orderflow.cli.errors import CliError, ExitCode, ReaderGoneError, printable
from orderflow.cli.values import EMPTY, is_blank
from orderflow.local.errors import LocalError
from orderflow.registry import RegistryError
from orderflow.settings.readers import SettingsError

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
UNUSABLE = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST})


class LazyCommand(NamedTuple):
    """Where a command is (`module:attribute`), and what the list of commands says of it."""

    target: str
    summary: str


class Group(click.Group):
    """Its list of commands has the whole sentence about each; click cuts off what does not fit a line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary(ctx, name)) for name in self.list_commands(ctx)])

    def summary(self, ctx: click.Context, name: str) -> str:
        """What the list of commands says of one."""
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(sys.maxsize)


class LazyGroup(Group):
    """Errors that are written for people end the program with their sentence and their exit code."""

    def __init__(self, *, commands_by_name: Mapping[str, LazyCommand], **attributes: Any) -> None:
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
        return _strict(command)

    def summary(self, ctx: click.Context, name: str) -> str:
        return self._lines[name].summary

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


def _strict(command: click.Command) -> click.Command:
    """The command, each of whose options refuses what nobody means; of a group, those of its commands."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _strict(each)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not isinstance(parameter.callback, _Meant):
            parameter.callback = _Meant(parameter.callback)
    return command


class _Meant:
    """A callback of click's that refuses what nobody means, then goes on with the option's own.

    `--group "$GROUP"` with a variable that is not set must not be every group. Python reads `nan` as a number, which
    is neither below nor above any limit.
    """

    def __init__(self, then: Callable[[click.Context, click.Parameter, Any], Any] | None) -> None:
        self._then = then

    def __call__(self, ctx: click.Context, option: click.Parameter, value: Any) -> Any:
        """Raises click.BadParameter."""
        if value != option.default:
            for each in value if isinstance(value, tuple) else (value,):
                _require_meant(each)
        return value if self._then is None else self._then(ctx, option, value)


def _require_meant(value: object) -> None:
    """Raises click.BadParameter."""
    if is_blank(value):
        raise click.BadParameter(EMPTY)
    if isinstance(value, float) and value != value:
        raise click.BadParameter("nan is not a number.")


def code_of(command: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run `command`; its exit code. Expected errors are told, a defect of ours keeps its trace."""
    _write_any_text()
    try:
        result = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except NoArgsIsHelpError as bare:
        click.echo(bare.format_message(), color=_coloured())
        return ExitCode.DONE
    except (click.ClickException, CliError, SettingsError, RegistryError, LocalError) as error:
        return _complain(error, arguments)
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, ReaderGoneError):
        _forget_stdout()
        return ExitCode.READER_GONE
    except OSError as error:
        if (told := _about_a_file(error)) is None:
            raise
        return _complain(told, arguments)
    return result if isinstance(result, int) else ExitCode.DONE


def _about_a_file(error: OSError) -> CliError | None:
    """What a person can mend: a file or folder that cannot be used, an output that takes nothing."""
    if error.errno in UNWRITABLE:
        _forget_stdout()
        return CliError(f"Cannot write to {error.filename or 'standard output'}: {error.strerror}")
    if error.errno in UNUSABLE and error.filename is not None:
        return CliError(f"Cannot use {error.filename}: {error.strerror}")
    return None


def _complain(error: Exception, arguments: Sequence[str]) -> int:
    kind, code, message = _read(error)
    if "--json" in arguments:
        document = {"kind": kind, "message": message, "exit_code": int(code)}
        said = json.dumps({"error": document})
    else:
        usage = _usage_of(error) if isinstance(error, click.UsageError) else ""
        said = f"{usage}{click.style('Error:', fg='red', bold=True)} {printable(message)}"
    # Where standard error takes nothing, the exit code has to do.
    with suppress(OSError):
        click.echo(said, err=True, color=None if "--json" in arguments else _coloured())
    return int(code)


def _read(error: Exception) -> tuple[str, int, str]:
    match error:
        case click.UsageError():
            return "usage", ExitCode.USAGE, _one_line(error)
        case click.ClickException():
            return "failed", error.exit_code, _one_line(error)
        case CliError():
            return error.kind, error.code, str(error)
        case SettingsError() | RegistryError():
            return "settings", ExitCode.USAGE, str(error)
    return "failed", ExitCode.FAILED, str(error)


def _one_line(error: click.ClickException) -> str:
    """Click sets a list of choices out in lines."""
    return " ".join(error.format_message().split())


def _usage_of(error: click.UsageError) -> str:
    if error.ctx is None:
        return ""
    return f"{error.ctx.get_usage()}\nExamples and options: {error.ctx.command_path} --help\n\n"


def _coloured() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


def _write_any_text() -> None:
    """A terminal that cannot show a character gets its number, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Whoever read us is gone; what Python still wants to flush goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
