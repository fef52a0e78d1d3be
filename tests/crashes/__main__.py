"""Lets processes die at crash points, and checks that the promises hold. `python -m tests.crashes --help`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from orderflow.core.crash_points import EXIT_CODE, Point
from orderflow.registry import SAGA
from tests.crashes.cells import LOGS, MIGRATE, Cell, day_of, every_cell, why_not
from tests.crashes.cost import nanoseconds, points_of_an_order
from tests.crashes.matrix import Matrix, Servers, Verdict
from tests.support.kafka import KafkaServer, fetch_jars, missing
from tests.support.postgres import PostgresServer
from tests.zoo.inmates import ZOO

ROOT = Path(__file__).parents[2]
JARS = ROOT / ".pytest_cache" / "d" / "kafka"
PAGE = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- crash points: made by python -m tests.crashes --write -->", "<!-- end of crash points -->"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("points", nargs=-1, metavar="[POINT]…", type=click.Choice(list(map(str, Point))))
@click.option("--service", type=click.Choice([*SAGA, MIGRATE]), help="Only processes of this service.")
@click.option("--log", type=click.Choice(LOGS), help="Only on this log.")
@click.option("--times", type=click.IntRange(1, 20), default=1, show_default=True, help="Die at the N-th time.")
@click.option("--jobs", type=click.IntRange(1, 20), default=1, show_default=True, help="Installations of each log.")
@click.option("--plant", type=click.Choice(list(ZOO)), metavar="BUG", help="With a bug of the zoo everywhere.")
@click.option("--list", "listing", is_flag=True, help="Only say which cells there are, and which cannot be reached.")
@click.option("--write", is_flag=True, help=f"Write the table into {PAGE.relative_to(ROOT)} (of all cells).")
@click.option("--cost", is_flag=True, help="Only measure what points cost a process that is not armed.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each cell.")
def main(
    points: Sequence[str],
    service: str | None,
    log: str | None,
    times: int,
    jobs: int,
    plant: str | None,
    listing: bool,
    write: bool,
    cost: bool,
    as_json: bool,
) -> None:
    """Let a process of each service die at each crash point on each log, and check the promises.

    In a round each of the four services is to die at a point of its own, while orders are approved, declined,
    out of stock, poisoned and replayed. The process that dies is followed by one that does not. Once nothing is
    under way any more, the audit has to find nothing. What it finds is tried again cell by cell, to tell which
    it was.

    \b
    Examples:
      python -m tests.crashes                                   the whole matrix
      python -m tests.crashes relay.acknowledged --log kafka    one point, four services
      python -m tests.crashes tx.committed --times 3            at the third time, not the first
      python -m tests.crashes --plant marks-before-it-appends --log postgres --service order
      python -m tests.crashes --jobs 2 --write                  the whole matrix, and its table into the docs

    Exit code: 0 every cell was reached and all promises hold, 1 some do not, 2 wrong usage.
    """
    wanted = [
        cell
        for cell in every_cell()
        if (not points or cell.point in points) and service in (None, cell.service) and log in (None, cell.log)
    ]
    cells = [cell for cell in wanted if day_of(cell) is not None]
    if write and (points or service or log or plant):
        raise click.UsageError("--write makes the table of the whole matrix: leave out what narrows it")
    if listing:
        for cell in wanted:
            click.echo(f"{cell.point:20} {cell.service:14} {cell.log:10} {day_of(cell) or f'no: {why_not(cell)}'}")
        return
    if cost:
        click.echo(measured())
        return
    if not cells:
        raise click.UsageError("; ".join(f"{cell}: {why_not(cell)}" for cell in wanted) or "there is no such cell")
    started = time.perf_counter()
    with servers({cell.log for cell in cells}) as running:
        teller = Teller(len(cells), as_json=as_json)
        matrix = Matrix(running, times=times, planted=[plant] if plant else [], told=teller.tell)
        verdicts = asyncio.run(matrix.play(cells, jobs))
    if not as_json:
        click.echo(f"{summary(verdicts)} {time.perf_counter() - started:.0f} s.")
    if write:
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), verdicts), "utf-8")
    sys.exit(0 if all(verdict.holds for verdict in verdicts) else 1)


class Teller:
    """Tells each verdict as it comes."""

    def __init__(self, total: int, *, as_json: bool) -> None:
        self._total = total
        self._as_json = as_json
        self._told = 0

    def tell(self, verdict: Verdict) -> None:
        self._told += 1
        if self._as_json:
            cell = verdict.cell._asdict()
            click.echo(json.dumps({**cell, "reached": verdict.reached, "broken": list(verdict.broken)}))
        else:
            click.echo(f"{self._told:3}/{self._total} {verdict}")


@contextmanager
def servers(logs: set[str]) -> Iterator[Servers]:
    """PostgreSQL, and Kafka where it is wanted. Raises click.ClickException where there can be none."""
    reason = missing() if "kafka" in logs else None
    if reason is not None:
        raise click.ClickException(f"no Apache Kafka: {reason}; --log postgres does without")
    postgres, kafka = PostgresServer(), None
    try:
        postgres.start()
        if "kafka" in logs:
            JARS.mkdir(parents=True, exist_ok=True)
            kafka = KafkaServer(fetch_jars(JARS))
            kafka.start()
        yield Servers(postgres, kafka.bootstrap if kafka else None)
    finally:
        if kafka is not None:
            kafka.remove()
        postgres.remove()


def measured() -> str:
    """What points cost a process that is not armed, in a sentence."""
    with servers({"postgres"}) as running:
        points = asyncio.run(points_of_an_order(running.postgres))
    each = nanoseconds()
    return (
        f"A point that is off costs {each:.0f} ns. An order that is alone passes {points} of them in all four "
        f"services: {points * each / 1000:.1f} µs."
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """The figures."""
    died = sum(verdict.reached for verdict in verdicts)
    broken = sum(bool(verdict.broken) for verdict in verdicts)
    points = len({verdict.cell.point for verdict in verdicts})
    return (
        f"{points} points, {len(verdicts)} cells (point, service, log): in {died} the process died at its point "
        f"(exit code {EXIT_CODE}); a promise was broken in {broken}."
    )


def with_table(page: str, verdicts: Sequence[Verdict]) -> str:
    """The page with today's table in the place of the last one."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    table = ["| point | what is cut | who dies there | cells | result |", "|---|---|---|---|---|"]
    table += [row(point, [each for each in verdicts if each.cell.point is point]) for point in Point]
    out = ["Cells that are not tried:", "", "| point | who | why |", "|---|---|---|", *unreachable()]
    return "\n".join([before + BEGIN, "", summary(verdicts), "", *table, "", *out, "", END + after])


def row(point: Point, verdicts: Sequence[Verdict]) -> str:
    services = {each.cell.service for each in verdicts}
    who = "all four" if services == set(SAGA) else ", ".join(sorted(services))
    if len({each.cell.log for each in verdicts}) == 1:
        who += f", on {verdicts[0].cell.log}"
    wrong = [str(each) for each in verdicts if not each.holds]
    return f"| `{point}` | {point.cut} | {who} | {len(verdicts)} | {'; '.join(wrong) or 'all promises hold'} |"


def unreachable() -> Iterator[str]:
    by_reason: dict[tuple[Point, str], list[Cell]] = {}
    for cell in every_cell():
        if day_of(cell) is None:
            by_reason.setdefault((cell.point, why_not(cell)), []).append(cell)
    for (point, reason), cells in by_reason.items():
        services = ", ".join(dict.fromkeys(cell.service for cell in cells))
        logs = {cell.log for cell in cells}
        where = f", on {logs.pop()}" if len(logs) == 1 else ""
        yield f"| `{point}` | {services}{where} | {reason} |"


if __name__ == "__main__":
    main(prog_name="python -m tests.crashes")
