"""`orderflow status`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.output import table, text
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.local.state import Running

TIMEOUT_S = 3.0


@click.command(
    epilog="""\b
Examples:
  orderflow status
  orderflow status --json

\b
Exit codes: 0 everything is ready; 1 something is not; 3 nothing runs on this home."""
)
@session_options
def status(session: Session) -> None:
    """What runs where, whether it is ready, and how far it is behind."""
    from orderflow.local import control
    from orderflow.local.home import Home
    from orderflow.local.probe import probe

    home = Home(session.settings.home)
    found = control.running(home)
    if found is None:
        raise UnreachableError(f"Nothing runs on {home.path}. Start it with: orderflow up")
    health = {process.name: probe(process, TIMEOUT_S) for process in found.processes}
    if session.out.as_json:
        processes = [{**asdict(process), **asdict(health[process.name])} for process in found.processes]
        document = {"home": str(home.path), "phase": found.phase, "carrier": found.carrier}
        session.out.document({**document, "processes": processes})
    else:
        session.out.show(text(f"{found.phase} on {found.carrier or '...'}; data in {home.path}"))
        rows = [_row(process, health[process.name].words) for process in found.processes]
        session.out.show(table(("", "where", "process", "restarts", "state"), rows, right=("process", "restarts")))
    if found.phase != "ready" or not all(each.ready for each in health.values()):
        raise CliError("Not everything is ready")


def _row(process: Running, words: str) -> tuple[str, str, int, int, str]:
    return process.name, process.address, process.pid, process.restarts, words
