"""State machines in PostgreSQL: the table that a trigger enforces must be the table that code decides by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from orderflow.messaging.machine import StateMachine
from orderflow.messaging.store import SchemaBehindError
from orderflow.messaging.stores.postgres.queries import load_queries

PACKAGE = "orderflow.messaging.stores.postgres"
ILLEGAL_TRANSITION = "OF001"
"""The SQLSTATE of a transition that the database refuses."""


class Asks(Protocol):
    """Whatever can run a query: a connection, or a service's `Database`."""

    async def fetch(self, query: str, *arguments: object) -> Sequence[Any]: ...


async def verify_machine(database: Asks, machine: StateMachine) -> None:
    """Return if the database enforces exactly `machine`. Raises SchemaBehindError that names what differs."""
    rows = await database.fetch(load_queries(PACKAGE, "machines.sql")["transitions"], machine.name)
    stored = {(machine.name, row["before"], row["event"], row["after"]) for row in rows}
    wanted = set(machine.rows())
    if stored == wanted:
        return
    lacking = _sentence("lacks", wanted - stored)
    extra = _sentence("also allows", stored - wanted)
    told = "; ".join(part for part in (lacking, extra) if part)
    raise SchemaBehindError(
        f"the state machine {machine.name!r} of the database {told}: run `orderflow migrate` with this release"
    )


def _sentence(verb: str, transitions: set[tuple[str, str, str, str]]) -> str:
    shown = [f"{before} --{event}--> {after}" for _, before, event, after in sorted(transitions)]
    return f"{verb} {', '.join(shown)}" if shown else ""
