"""`orderflow reset`."""

from __future__ import annotations

import click

from orderflow.cli.session import Session, session_options


@click.command(
    epilog="""\b
Examples:
  orderflow reset
  orderflow reset --yes --home /tmp/trial

\b
Exit codes: 0 deleted, or nothing was there; 1 it runs, or the folder is not a home; 130 not agreed."""
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@session_options
def reset(session: Session, yes: bool) -> None:
    """Delete all data of a home: orders, payments, stock, events. Settings (orderflow.toml) stay."""
    from orderflow.local.control import erase, require_erasable
    from orderflow.local.home import Home

    home = Home(session.given.home)
    there = require_erasable(home)
    if there:
        if not yes:
            click.confirm(f"Delete all orders and everything else in {home.path}?", abort=True, err=True)
        erase(home)
    if session.out.as_json:
        session.out.document({"deleted": there, "home": str(home.path)})
    else:
        click.echo(f"Deleted what was in {home.path}" if there else f"There is nothing in {home.path}")
