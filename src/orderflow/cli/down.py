"""`orderflow down`."""

from __future__ import annotations

import click

from orderflow.cli.session import Session, session_options

MARGIN_S = 60.0


@click.command(
    epilog="""\b
Examples:
  orderflow down
  orderflow down --home /srv/orderflow

\b
Exit codes: 0 nothing runs any more; 1 it did not stop in time."""
)
@session_options
def down(session: Session) -> None:
    """Stop what `up` started: drain the services, then end Kafka and PostgreSQL."""
    from orderflow.cli.bars import heartbeat
    from orderflow.local import control
    from orderflow.local.home import Home

    settings = session.given
    limit_s = settings.drain_timeout_s + MARGIN_S
    with heartbeat(lambda: f"stopping; it may take {limit_s:.0f} s", hidden=session.out.as_json):
        stopped = control.stop(Home(settings.home), limit_s)
    if session.out.as_json:
        session.out.document({"stopped": stopped})
    else:
        click.echo("Stopped" if stopped else f"Nothing runs on {settings.home}")
