"""`orderflow status`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.output import text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import table

if TYPE_CHECKING:
    from orderflow.local.probe import Health
    from orderflow.local.state import Down, Running

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
    """What runs where, whether it is ready, and how far it is behind.

    What should run and does not is `down`, with the reason; a full disk is told too.
    """
    from orderflow.local import control, folders
    from orderflow.local.home import Home
    from orderflow.local.probe import Health, probe

    home = Home(session.given.home)
    found = control.running(home)
    if found is None:
        raise UnreachableError(f"Nothing runs on {home.path}. Start it with: orderflow up")
    with ThreadPoolExecutor() as threads:
        probed = list(threads.map(lambda process: probe(process, TIMEOUT_S), found.processes))
    rows: list[tuple[Running | Down, Health]]
    rows = [*zip(found.processes, probed, strict=True), *((down, Health.of_down(down)) for down in found.down)]
    full = folders.full(home.path)
    well = not full and all(health.ready for _, health in rows)
    if session.out.as_json:
        document = {"home": str(home.path), "phase": found.phase, "carrier": found.carrier}
        problems = {"disk": full} if full else {}
        session.out.document({**document, "problems": problems, "processes": [_document(*row) for row in rows]})
    else:
        phase = "not ready" if found.phase == "ready" and not well else found.phase
        session.out.show(text(f"{phase} on {found.carrier or '...'}; data in {home.path}"))
        columns = ("", "where", "process", "restarts", "state")
        shown, numbers = [_row(*row) for row in rows], ("process", "restarts")
        session.out.show(table(columns, shown, right=numbers, drop=numbers[::-1]))
        if full:
            session.out.show(text(f"{full[0].upper()}{full[1:]}", "bold red"))
    if found.phase != "ready" or not well:
        raise CliError("Not everything is ready")


def _row(unit: Running | Down, health: Health) -> tuple[str, str, object, int, str]:
    shown = _document(unit, health)
    return unit.name, shown["address"] or "-", shown["pid"] or "-", unit.restarts, health.words


def _document(unit: Running | Down, health: Health) -> dict[str, Any]:
    known = {"pid": None, "started": None, "address": None, **asdict(unit), **asdict(health), "state": health.state}
    return {**known, "pid": None} if health.state == "down" else known
