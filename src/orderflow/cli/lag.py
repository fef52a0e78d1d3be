"""`orderflow lag`: see how far the services are behind, and what is stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.cli.http import ServiceClient

BY_PARTITION = ("service", "consumer", "topic", "partition", "committed", "end", "lag")


@click.command()
@click.option("--partitions", is_flag=True, help="A line for each partition.")
@session_options
def lag(session: Session, partitions: bool) -> None:
    """How many records each consumer has still to handle, and which keys are stuck at it.

    A stuck key is an order of which an event failed: it is retried, or dead (given up), and the later events
    of that order are held behind it. Exit code 3 when a service did not answer.

    \b
    orderflow lag
    orderflow lag --partitions
    orderflow lag --json | jq '[.lag[].lag] | add'
    """
    from orderflow.cli import everywhere

    answers = everywhere.ask(session, _ask)
    if session.out.as_json:
        lags = _rows(answers.found, "lag")
        session.out.document({"lag": lags, "stuck": _rows(answers.found, "stuck"), "unreachable": answers.away})
    else:
        session.out.show(*_parts(answers.found, partitions))
        everywhere.show_away(session, answers)
    answers.require_all()


def _ask(client: ServiceClient) -> dict[str, Any]:
    return {"lag": client.get("/ops/lag"), "stuck": client.get("/ops/parked")}


def _rows(found: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    return [{"service": name, **row} for name, answer in found.items() for row in answer[part]]


def _parts(found: Mapping[str, Any], partitions: bool) -> Iterator[RenderableType]:
    from orderflow.cli.counts import WAITS
    from orderflow.cli.tables import table, when

    rows = _rows(found, "lag")
    if partitions:
        lines = [tuple(row[column] for column in BY_PARTITION) for row in rows]
        yield table(BY_PARTITION, lines, right=("partition", "committed", "end", "lag"), drop=("service",))
    else:
        totals = [(*name, behind) for name, behind in _totals(rows).items()]
        yield table(("service", "consumer", "topic", "lag"), totals, right=("lag",))
    stuck = _rows(found, "stuck")
    yield ""
    if not stuck:
        yield "No key is stuck."
        return
    counts = ("keys", *WAITS)
    columns = ("service", "consumer", *counts)
    lines = [(*(row[column] for column in columns), when(row["oldest"])) for row in stuck]
    yield table((*columns, "oldest"), lines, right=counts, drop=("service", "oldest"))
    if any(row["dead"] for row in stuck):
        yield "See what was given up with: orderflow dlt list"


def _totals(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    totals: dict[tuple[str, str, str], int] = {}
    for row in rows:
        name = (row["service"], row["consumer"], row["topic"])
        totals[name] = totals.get(name, 0) + row["lag"]
    return totals
