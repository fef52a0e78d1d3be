"""Plays schedules of statements on a real PostgreSQL. `python -m tests.schedules --help`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import click

from tests.schedules.cases import CASES
from tests.schedules.explore import Explored, Played, explore, opened
from tests.support.postgres import PostgresServer

LANES = 2
SETTINGS = {"synchronous_commit": "off"}
FOR_EVER_S = 1e9


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[CASE]…")
@click.option("--schedules", default=500, show_default=True, help="How many schedules of each case.")
@click.option("--seconds", type=float, help="Or for how long each case, whatever the number.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--seed", type=int, help="Only the schedule of this seed, turn by turn.")
@click.option("--all", "every", is_flag=True, help="Every schedule there is, without cuts, up to --schedules.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many cases side by side.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each case.")
@click.option("--list", "listing", is_flag=True, help="Only say which cases there are.")
def main(
    names: Sequence[str],
    schedules: int,
    seconds: float | None,
    first: int,
    seed: int | None,
    every: bool,
    jobs: int,
    as_json: bool,
    listing: bool,
) -> None:
    """Let the sessions of each CASE take turns at every statement, as a seed says, and judge the tables.

    The code is production's, the PostgreSQL is real. A schedule that breaks something is shortened before it is
    shown, and its seed plays it again.

    \b
    Examples:
      python -m tests.schedules                              500 schedules of every case
      python -m tests.schedules appends --seconds 60         one case for a minute
      python -m tests.schedules batches --all                every schedule of a small case
      python -m tests.schedules groups-cut --seed 11         one schedule, turn by turn

    Exit code: 0 nothing is broken, 1 something is, 2 wrong usage.
    """
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise click.UsageError(f"no case is called {', '.join(unknown)}; --list names those that there are")
    chosen = list(names) or list(CASES)
    if seed is not None and len(chosen) != 1:
        raise click.UsageError("--seed plays a schedule of one case: name it")
    if listing:
        for name in chosen:
            click.echo(f"{name:18} {CASES[name].about}")
        return
    end = sys.maxsize if seconds else first + schedules
    server = PostgresServer(SETTINGS)
    try:
        server.start()
        if seed is not None:
            sys.exit(_one(server, chosen[0], seed))
        broken = 0
        for number, done in enumerate(_all(server, chosen, (first, end, seconds or FOR_EVER_S), every, jobs), 1):
            broken += done.failure is not None
            click.echo(json.dumps(_as_json(done)) if as_json else f"{number:2}/{len(chosen)} {_said(done)}")
    finally:
        server.remove()
    sys.exit(1 if broken else 0)


def _all(
    server: PostgresServer, names: Sequence[str], bounds: tuple[int, int, float], every: bool, jobs: int
) -> Iterator[Explored]:
    """In the order in which they are done."""
    with ProcessPoolExecutor(jobs) as pool:
        running = []
        for name in names:
            urls = [server.create_database(f"{name}-{lane}") for lane in range(1 if every else LANES)]
            running.append(pool.submit(_explore, name, urls, *bounds, every))
        for done in as_completed(running):
            yield done.result()


def _explore(name: str, urls: Sequence[str], first: int, end: int, seconds: float, every: bool) -> Explored:
    return asyncio.run(explore(CASES[name], urls, first, end, seconds, every=every))


def _one(server: PostgresServer, name: str, seed: int) -> int:
    async def play() -> Played:
        async with opened(CASES[name](), server.create_database(name)) as bench:
            return await bench.seeded(seed)

    played = asyncio.run(play())
    click.echo("\n".join(_told(played)))
    return 1 if played.broken else 0


def _said(done: Explored) -> str:
    verdict = (
        f"BROKEN at seed {done.seed}" if done.failure else "kept, all that there are" if done.complete else "kept"
    )
    line = f"{done.case:18} {verdict:12} {done.schedules:7} schedules {done.turns:8} turns {done.rate:7.0f}/s"
    return "\n".join([line, *(_told(done.failure) if done.failure else ())])


def _told(played: Played) -> Iterator[str]:
    for turn in played.turns:
        yield f"    {turn.actor:10} {turn.move:28} {turn.at}"
    for each in played.broken:
        yield click.style(f"  broken: {each}", fg="red")
    if not played.broken:
        yield f"  nothing is broken after {len(played.turns)} turns"


def _as_json(done: Explored) -> dict[str, Any]:
    failure = done.failure
    return {
        "case": done.case,
        "schedules": done.schedules,
        "turns": done.turns,
        "per_second": round(done.rate, 1),
        "complete": done.complete,
        "seed": done.seed,
        "broken": list(failure.broken) if failure else [],
        "schedule": [[turn.actor, turn.move.value, turn.at] for turn in failure.turns] if failure else [],
    }


if __name__ == "__main__":
    main(prog_name="python -m tests.schedules")
