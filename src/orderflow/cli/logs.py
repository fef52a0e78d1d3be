"""`orderflow logs`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from orderflow.cli.plain import printable
from orderflow.cli.session import Session, session_options

OF_ERRORS = ".stderr"


@click.command(
    epilog="""\b
Examples:
  orderflow logs                     the last lines of every log
  orderflow logs -f order            follow the service order
  orderflow logs -n 200 postgres     PostgreSQL's own log
  orderflow logs -n 100000 | grep ORDER_ID
                                     all that concerns one order
  orderflow logs --json | jq 'select(.level == "error")'

\b
Exit codes: 0 shown; 1 there is no such log."""
)
@click.argument("names", metavar="[SERVICE]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="Last lines of each.")
@session_options
def logs(session: Session, names: tuple[str, ...], follow: bool, lines: int) -> None:
    """Show the logs of services, PostgreSQL and Kafka.

    Readable on a terminal, elsewhere as the services write them: a JSON object a line. Where several are shown, each
    line stands behind the name of its log. With --json every line is a JSON object, also those of PostgreSQL and
    Kafka, and there are no names before them.
    """
    from orderflow.local import viewing
    from orderflow.local.home import Home

    found = viewing.find(Home(session.given.home).logs, names)
    alone = [name for name in found if not name.endswith(OF_ERRORS)]
    terminal = sys.stdout.isatty()
    for name, line in viewing.lines(found, lines, follow=follow):
        if session.out.as_json:
            shown = line if _document(line) else json.dumps({"log": name, "message": line})
        else:
            label = "" if alone == [name] else f"{name:<14} "
            shown = label + (_readable(line) if terminal else line)
        sys.stdout.write(f"{shown}\n")
        if follow:
            sys.stdout.flush()


def _readable(line: str) -> str:
    from orderflow.observability.logs import FIRST, as_text

    document = _document(line)
    if document.keys() >= FIRST:
        return as_text(document, colour="NO_COLOR" not in os.environ).rstrip("\n")
    return printable(line)


def _document(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
