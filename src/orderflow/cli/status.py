"""`orderflow status`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, UnreachableError, counted
from orderflow.cli.http import ClientTls, ServiceClient
from orderflow.cli.output import pause, text
from orderflow.cli.session import Session, session_options, tls_of, token_for
from orderflow.cli.tables import table
from orderflow.diagnosis.side_by_side import side_by_side

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.local.state import Down, Running, RunState

TIMEOUT_S = 3.0
NOT_READY = 503
DOWN = "process"


@dataclass(frozen=True, slots=True)
class ProcessHealth:
    """How a process is. `lag` is how many events its consumers have still to read; None where nobody says."""

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
        return "ready" if not self.lag else f"ready, {counted(self.lag, 'event')} behind"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found. `full` says that the disk is."""

    home: Path
    found: RunState
    rows: Sequence[tuple[Running | Down, ProcessHealth]]
    full: str

    @property
    def well(self) -> bool:
        return self.found.phase == "ready" and not self.full and all(health.ready for _, health in self.rows)

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "home": str(self.home),
            "phase": self.found.phase,
            "event_log": self.found.event_log,
            "problems": {"disk": self.full} if self.full else {},
            "processes": [_document(*row) for row in self.rows],
        }

    def parts(self) -> Iterator[RenderableType]:
        """For people."""
        phase = "not ready" if self.found.phase == "ready" and not self.well else self.found.phase
        yield text(f"{phase} on {self.found.event_log or '...'}; data in {self.home}")
        columns, numbers = ("", "where", "process", "restarts", "state"), ("process", "restarts")
        yield table(columns, [_row(*row) for row in self.rows], right=numbers, drop=numbers[::-1])
        if self.full:
            yield text(f"{self.full[0].upper()}{self.full[1:]}", "bold red")


@click.command(
    epilog="""\b
Examples:
  orderflow status
  orderflow status --watch
  orderflow status --watch 10 --json | jq -c .phase

\b
Exit codes: 0 everything is ready; 1 something is not; 3 nothing is running on this home. With --watch: as last
seen before Ctrl-C."""
)
@click.option(
    "--watch",
    "every_s",
    type=click.FloatRange(0.2),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Look again and again, until Ctrl-C; every 2 seconds if no others are said.",
)
@session_options
def status(session: Session, every_s: float | None) -> None:
    """Show what is running and where, whether it is ready, and how far it is behind.

    A process that should be running but is not shows as `down`, with the reason; a full disk is reported too. With
    --watch, a terminal keeps showing the latest state; otherwise each change is printed, with --json as one line
    each.
    """
    seen = _look(session) if every_s is None else _watch(session, every_s)
    if every_s is None:
        session.out.answer(seen.document(), seen.parts())
    if not seen.well:
        raise CliError("Not everything is ready")


def _look(session: Session) -> Seen:
    """Raises UnreachableError: nothing runs."""
    from orderflow.local import state
    from orderflow.local.home import Home, full_disk

    home = Home(session.given.home)
    found = state.running(home)
    if found is None:
        raise UnreachableError(f"Nothing is running on {home.path}. Start it with: {session.given.command('up')}")
    probed = side_by_side(
        lambda each: probe(each, TIMEOUT_S, token_for(session.given, each.ops_address), tls_of(session.given)),
        found.processes,
    )
    rows: list[tuple[Running | Down, ProcessHealth]]
    rows = [
        *zip(found.processes, probed, strict=True),
        *((down, ProcessHealth(False, {DOWN: down.why})) for down in found.down),
    ]
    return Seen(home.path, found, rows, full_disk(home.path))


def _watch(session: Session, every_s: float) -> Seen:
    """Until Ctrl-C; the last look."""
    seen = _look(session)
    with _shown(session) as show:
        try:
            while True:
                show(seen)
                pause(every_s)
                seen = _look(session)
        except KeyboardInterrupt:
            return seen


@contextmanager
def _shown(session: Session) -> Iterator[Callable[[Seen], None]]:
    """How looks are shown: one in the other's place at a terminal, else one after the other where they differ."""
    last: dict[str, Any] = {}

    def tell(seen: Seen) -> None:
        nonlocal last
        before, last = last, seen.document()
        if session.out.as_json and before != last:
            session.out.line(last)
        elif before != last:
            session.out.show(*seen.parts(), "")

    if session.out.as_json or not session.out.console.is_terminal:
        yield tell
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=session.out.console, auto_refresh=False) as live:
        yield lambda seen: live.update(Group(*seen.parts()), refresh=True)


def probe(
    process: Running, timeout_s: float, token: str | None = None, tls: ClientTls | None = None
) -> ProcessHealth:
    """PostgreSQL and Kafka by their process, a service by its own word."""
    if not process.mark.runs:
        return ProcessHealth(False, {DOWN: "it has ended"})
    if process.kind != "service":
        return ProcessHealth(True, {})
    try:
        ops = process.ops_address or None
        options: dict[str, Any] = {"timeout_s": timeout_s, "token": token, "tls": tls}
        with ServiceClient(process.name, process.address, ops, **options) as client:
            found = client.ask("GET", "/health/ready", good=(NOT_READY,)).body
            return ProcessHealth(found["ready"], found["problems"], _lag(client))
    except CliError:
        return ProcessHealth(False, {"http": "it does not answer"})


def _lag(client: ServiceClient) -> int | None:
    try:
        return sum(int(row["lag"]) for row in client.get("/ops/lag"))
    except CliError:
        return None


def _row(unit: Running | Down, health: ProcessHealth) -> tuple[str, str, object, int, str]:
    shown = _document(unit, health)
    return unit.name, shown["address"] or "-", shown["pid"] or "-", unit.restarts, health.words


def _document(unit: Running | Down, health: ProcessHealth) -> dict[str, Any]:
    known = {"pid": None, "started": None, "address": None, **asdict(unit), **asdict(health), "state": health.state}
    return {**known, "pid": None} if health.state == "down" else known
