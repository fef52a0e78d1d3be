"""`orderflow logs`."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from orderflow.cli.errors import NotFoundError, printable
from orderflow.cli.output import pause
from orderflow.cli.session import Session, session_options
from orderflow.cli.values import EXAMPLE_ID, digits, is_id

OF_ERRORS = ".stderr"
USUAL_LINES = 50


@click.command(
    epilog="""\b
Examples:
  orderflow logs                     the last lines of all logs, by time
  orderflow logs -f order payment    follow two services
  orderflow logs -n 200 postgres     PostgreSQL's own log
  orderflow logs --order 01981c5e-7a40-7000-8000-0123456789ab
                                     everything about one order, in every service
  orderflow logs --json | jq 'select(.level == "error")'

\b
Exit codes: 0 shown, or no line matches; 4 there is no such log."""
)
@click.argument("names", metavar="[SERVICE]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), help="How many last lines.  [default: 50; with --order all]")
@click.option(
    "--order", metavar="ORDER_ID", help="Only lines that name this order; the last digits of its id are enough."
)
@session_options
def logs(session: Session, names: tuple[str, ...], follow: bool, lines: int | None, order: str | None) -> None:
    """Show the logs of the services, PostgreSQL and Kafka, merged by time.

    A terminal gets readable lines; anything else gets what the services write, one JSON object per line. When
    several logs are shown, each line starts with the name of its log. With --json every line is a bare JSON object,
    PostgreSQL's and Kafka's included.
    """
    from orderflow.local import logs as kept
    from orderflow.local.home import Home

    wanted = _names(order)
    try:
        found = kept.find(Home(session.given.home).logs, names)
    except kept.LogMissingError as error:
        raise NotFoundError(f"{error}" if names else f"{error}. Start with: {session.given.command('up')}") from error
    alone = [name for name in found if not name.endswith(OF_ERRORS)]
    terminal = sys.stdout.isatty()
    last = lines if lines is not None else USUAL_LINES if order is None else sys.maxsize
    any_shown = False
    for name, line in kept.lines(found, last, follow=follow, wanted=wanted, pause=pause):
        if session.out.as_json:
            shown = line if _document(line) else json.dumps({"log": name, "message": line})
        else:
            label = "" if alone == [name] else f"{name:<14} "
            shown = label + (_readable(line) if terminal else line)
        sys.stdout.write(f"{shown}\n")
        any_shown = True
        if follow:
            sys.stdout.flush()
    if not any_shown and last and not session.out.as_json:
        click.echo("No matching lines.", err=True)


def _names(order: str | None) -> Callable[[str], bool]:
    """Whether a line names the order: its id, or one that ends so, wherever it stands. Raises click.UsageError."""
    if order is None:
        return lambda _: True
    end = digits(order)
    if end is None and not is_id(order):
        raise click.UsageError(
            f"{order!r} is not an order id. Expected: a UUID such as {EXAMPLE_ID}, or its last digits"
        )
    pattern = re.escape(order.lower()) if end is None else rf"[0-9a-f-]*{'-?'.join(end)}"
    found = re.compile(rf"(?<![0-9a-f-]){pattern}(?![0-9a-f-])", re.IGNORECASE)
    return lambda line: found.search(line) is not None


def _readable(line: str) -> str:
    from orderflow.observability.logs import FIRST, as_text

    document = _document(line)
    if document.keys() >= FIRST:
        return as_text(document, colour=not os.environ.get("NO_COLOR")).rstrip("\n")
    return printable(line)


def _document(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
