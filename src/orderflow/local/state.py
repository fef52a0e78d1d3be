"""What runs on a home at this moment, as its supervisor noted it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orderflow.local.home import write_json
from orderflow.local.leftovers import ProcessMark

STARTING, READY, STOPPING = "starting", "ready", "stopping"


@dataclass(frozen=True, slots=True)
class Running:
    """A process of ours. `kind` is "service", "kafka" or "postgres"; `address` is for people and clients."""

    name: str
    kind: str
    pid: int
    started: float
    address: str
    restarts: int = 0

    @property
    def mark(self) -> ProcessMark:
        return ProcessMark(self.pid, self.started)


@dataclass(frozen=True, slots=True)
class Down:
    """What should run and does not; `why` is the last that is known, in words."""

    name: str
    kind: str
    why: str
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """`processes` is what runs, `down` what should.

    `postgres` is the folder of the socket or HOST:PORT, `bootstrap` the broker's address, if any.
    `carrier` says in words what carries the events.
    """

    supervisor: ProcessMark
    phase: str = STARTING
    processes: tuple[Running, ...] = ()
    down: tuple[Down, ...] = ()
    transport: str = "postgres"
    carrier: str = ""
    postgres: str | None = None
    bootstrap: str | None = None

    def write(self, path: Path) -> None:
        """Raises LocalError."""
        write_json(path, asdict(self))


def read(path: Path) -> State | None:
    """None when there is none, or when it cannot be understood."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        supervisor = ProcessMark(**found.pop("supervisor"))
        processes = tuple(Running(**process) for process in found.pop("processes"))
        down = tuple(Down(**each) for each in found.pop("down", ()))
        return State(supervisor=supervisor, processes=processes, down=down, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
