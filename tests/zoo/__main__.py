"""Runs planted bugs through the layers that are to catch them, and says which did, and after how long.

`python -m tests.zoo --help`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.zoo.bug import PROMISES, SIMULATION, Bug
from tests.zoo.inmates import ZOO

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- zoo: made by python -m tests.zoo --write -->", "<!-- end of zoo -->"
TIMEOUT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the bug was caught; `needed` says after how many seeds or seconds, `shown` what was seen."""

    bug: Bug
    caught: bool
    needed: str
    shown: str


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option(
    "--seeds", default=2_000, show_default=True, help="How many worlds the simulator may look at for a bug."
)
@click.option(
    "--layer", help="Only bugs that this layer is to catch: simulation, unit, conformance, integration, schedules."
)
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many bugs to try side by side.")
@click.option("--write", is_flag=True, help=f"Write the table into {PAGE.relative_to(ROOT)} (wants the whole zoo).")
@click.option("--list", "listing", is_flag=True, help="Only say which bugs there are.")
def main(names: Sequence[str], seeds: int, layer: str | None, jobs: int, write: bool, listing: bool) -> None:
    """Plant each bug in a process of its own, run what is to catch it, and tell what did.

    A bug in code that the simulator runs has to be caught by it, within so many SEEDS; the others name the tests
    that catch them. Nothing is changed on disk.

    \b
    Examples:
      python -m tests.zoo                                    the whole zoo
      python -m tests.zoo no-dedupe relay-reads-by-cursor    some bugs
      python -m tests.zoo --layer simulation --seeds 200     what the simulator sees early
      python -m tests.zoo --write                            the whole zoo, and its table into the docs

    Exit code: 0 all were caught, 1 some were not, 2 wrong usage.
    """
    unknown = [name for name in names if name not in ZOO]
    if unknown:
        raise click.UsageError(f"no bug is called {', '.join(unknown)}; --list names those that there are")
    bugs = [bug for bug in ZOO.values() if (not names or bug.name in names) and layer in (None, bug.layer)]
    if not bugs:
        raise click.UsageError(f"no bug is to be caught by {layer!r}: wanted is {', '.join(layers())}")
    if write and (names or layer):
        raise click.UsageError("--write makes the table of the whole zoo: leave out the names and --layer")
    if listing:
        for bug in bugs:
            click.echo(f"{bug.name:36} {bug.layer:12} {bug.breaks}")
        return
    verdicts = sorted(tried(bugs, seeds, jobs), key=lambda verdict: list(ZOO).index(verdict.bug.name))
    missed = [verdict for verdict in verdicts if not verdict.caught]
    click.echo("\n".join(summary(verdicts, seeds)))
    if write:
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), verdicts, seeds), "utf-8")
    sys.exit(1 if missed else 0)


def layers() -> Sequence[str]:
    return list(dict.fromkeys(bug.layer for bug in ZOO.values()))


def tried(bugs: Sequence[Bug], seeds: int, jobs: int) -> Iterator[Verdict]:
    """In the order in which they are done; each is told at once."""
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(attempt, bug, seeds) for bug in bugs]
        for number, done in enumerate(as_completed(running), 1):
            verdict = done.result()
            word = "caught" if verdict.caught else "MISSED"
            click.echo(f"{number:3}/{len(bugs)} {word} {verdict.bug.name:36} {verdict.needed:>12}  {verdict.shown}")
            yield verdict


def attempt(bug: Bug, seeds: int) -> Verdict:
    """Run what is to catch it."""
    return in_simulation(bug, seeds) if bug.is_simulated else in_tests(bug)


def in_simulation(bug: Bug, seeds: int) -> Verdict:
    """A seed counts only if its world keeps all promises without the bug."""
    found = simulated(bug.name, 0, seeds)
    if found["seed"] is None:
        return Verdict(bug, False, f"{seeds} seeds", "")
    clean = simulated("-", found["seed"], found["seed"] + 1)
    if clean["seed"] is not None:
        return Verdict(bug, False, f"seed {found['seed']}", f"broken without the bug: {clean['broken'][0]}")
    return Verdict(bug, True, f"{found['seed'] + 1} seeds", found["broken"][0][:120])


def simulated(name: str, first: int, end: int) -> dict[str, Any]:
    done = planted(name, "simulate", str(first), str(end))
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise click.ClickException(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def in_tests(bug: Bug) -> Verdict:
    """A bug is caught when a test fails: not when none could be collected."""
    started = time.perf_counter()
    done = planted(bug.name, "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *bug.caught_by.split())
    took = f"{time.perf_counter() - started:.0f} s"
    if done.returncode not in (0, 1):
        raise click.ClickException(f"{bug.name}: pytest could not run: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return Verdict(bug, done.returncode == 1, took, failed[0] if failed else "")


def planted(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.zoo.planted", name, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)


def summary(verdicts: Sequence[Verdict], seeds: int) -> Iterator[str]:
    """The figures, and what walked past."""
    seen = [verdict for verdict in verdicts if verdict.bug.is_simulated]
    caught = sum(verdict.caught for verdict in verdicts)
    yield f"{caught} of {len(verdicts)} bugs were caught."
    if seen:
        by_it = sum(verdict.caught for verdict in seen)
        share = by_it / len(seen)
        yield f"The simulator, {seeds} seeds each: {by_it} of {len(seen)} in code that it runs ({share:.0%})."
    for verdict in verdicts:
        if not verdict.caught:
            yield f"MISSED {verdict.bug.name}: {verdict.bug.breaks}"


def with_table(page: str, verdicts: Sequence[Verdict], seeds: int) -> str:
    """The page with today's table in the place of the last one."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    rows = [
        f"| {each.bug.breaks} (`{each.bug.name}`) | {PROMISES[each.bug.promise]} | "
        f"{each.bug.layer if each.caught else '**none**'} | {each.needed} |"
        for each in verdicts
    ]
    table = ["| bug | promise | caught by | needed |", "|---|---|---|---|", *rows]
    figures = " ".join(line for line in summary(verdicts, seeds) if not line.startswith("MISSED"))
    return "\n".join([before + BEGIN, "", figures, "", *table, "", END + after])


assert SIMULATION in layers()

if __name__ == "__main__":
    main(prog_name="python -m tests.zoo")
