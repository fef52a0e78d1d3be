"""`orderflow logs`."""

from __future__ import annotations

import sys

import click

from orderflow.cli.session import Session, session_options


@click.command(
    epilog="""\b
Examples:
  orderflow logs                     the last lines of every log
  orderflow logs -f order            follow the service order
  orderflow logs -n 200 postgres     PostgreSQL's own log
  orderflow logs | grep ORDER_ID     all that concerns one order

\b
Exit codes: 0 shown; 1 there is no such log."""
)
@click.argument("names", metavar="[SERVICE]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="Last lines of each.")
@session_options
def logs(session: Session, names: tuple[str, ...], follow: bool, lines: int) -> None:
    """Show the logs of services, PostgreSQL and Kafka.

    Each line stands behind the name of its log where there are several.
    """
    from orderflow.local import viewing
    from orderflow.local.home import Home

    found = viewing.find(Home(session.settings.home).logs, names)
    prefixed = len(found) > 1
    for name, line in viewing.lines(found, lines, follow=follow):
        sys.stdout.write(f"{name:<14} {line}\n" if prefixed else f"{line}\n")
        if follow:
            sys.stdout.flush()
