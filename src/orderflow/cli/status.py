"""`orderflow status`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.http import ClientTls, ServiceClient
from orderflow.cli.output import text
from orderflow.cli.session import Session, session_options, side_by_side, tls_of, token_for
from orderflow.cli.tables import table

if TYPE_CHECKING:
    from orderflow.local.state import Down, Running

TIMEOUT_S = 3.0
NOT_READY = 503
DOWN = "process"


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is. `lag` is how many events its consumers have not settled; None where nobody says."""

    ready: bool
    problems: dict[str, str]
    lag: int | None = None

    @property
    def state(self) -> str:
        """`ready`, `not ready`, or `down`: there is no process."""
        return "ready" if self.ready else "down" if DOWN in self.problems else "not ready"

    @property
    def words(self) -> str:
        """For people."""
        if DOWN in self.problems:
            return f"down: {self.problems[DOWN]}"
        if self.problems:
            return "; ".join(f"{name}: {problem}" for name, problem in self.problems.items())
        return "ready" if not self.lag else f"ready, {self.lag} events behind"


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
    from orderflow.local import state
    from orderflow.local.home import Home, full_disk

    home = Home(session.given.home)
    found = state.running(home)
    if found is None:
        raise UnreachableError(f"Nothing runs on {home.path}. Start it with: orderflow up")
    probed = side_by_side(
        lambda each: probe(each, TIMEOUT_S, token_for(session.given, each.ops_address), tls_of(session.given)),
        found.processes,
    )
    rows: list[tuple[Running | Down, Health]]
    rows = [
        *zip(found.processes, probed, strict=True),
        *((down, Health(False, {DOWN: down.why})) for down in found.down),
    ]
    full = full_disk(home.path)
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


def probe(process: Running, timeout_s: float, token: str | None = None, tls: ClientTls | None = None) -> Health:
    """PostgreSQL and Kafka by their process, a service by its own word."""
    if not process.mark.runs:
        return Health(False, {DOWN: "it has ended"})
    if process.kind != "service":
        return Health(True, {})
    try:
        ops = process.ops_address or None
        options: dict[str, Any] = {"timeout_s": timeout_s, "token": token, "tls": tls}
        with ServiceClient(process.name, process.address, ops, **options) as client:
            found = client.ask("GET", "/health/ready", good=(NOT_READY,)).body
            return Health(found["ready"], found["problems"], _lag(client))
    except CliError:
        return Health(False, {"http": "it does not answer"})


def _lag(client: ServiceClient) -> int | None:
    try:
        return sum(int(row["lag"]) for row in client.get("/ops/lag"))
    except CliError:
        return None


def _row(unit: Running | Down, health: Health) -> tuple[str, str, object, int, str]:
    shown = _document(unit, health)
    return unit.name, shown["address"] or "-", shown["pid"] or "-", unit.restarts, health.words


def _document(unit: Running | Down, health: Health) -> dict[str, Any]:
    known = {"pid": None, "started": None, "address": None, **asdict(unit), **asdict(health), "state": health.state}
    return {**known, "pid": None} if health.state == "down" else known
