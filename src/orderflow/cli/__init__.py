"""The command line. Each command is a file of its own, loaded when it is asked for."""

from __future__ import annotations

import click

from orderflow import __version__
from orderflow.cli.lazy import LazyGroup

COMMANDS = {
    "up": "orderflow.cli.up:up",
    "down": "orderflow.cli.down:down",
    "status": "orderflow.cli.status:status",
    "logs": "orderflow.cli.logs:logs",
    "reset": "orderflow.cli.reset:reset",
    "run": "orderflow.cli.run:run",
    "migrate": "orderflow.cli.migrate:migrate",
}


@click.group(
    cls=LazyGroup,
    commands_by_name=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="orderflow")
def main() -> None:
    """An event-driven order-processing platform: nothing lost, nothing twice, the books balance.

    \b
    orderflow up                 start everything on this machine
    orderflow order place        place an order
    orderflow status             what runs where

    \b
    Exit codes: 0 done; 1 something is in the way (one sentence on standard error says what);
    2 wrong usage; 130 interrupted. A command that has others says so in its own help.
    """
