"""Writes what the search through every interleaving has seen, and what it catches of the zoo, into the guarantees.

`python -m orderflow.simulation.exhaustive --json | python -m tests.simulation.exhaustive_page`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orderflow.simulation.exhaustive.__main__ import bounds_of
from orderflow.simulation.exhaustive.setting import RUNS, Bounds
from tests.zoo.__main__ import planted
from tests.zoo.in_services import BUGS

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN = "<!-- exhaustive: made by python -m tests.simulation.exhaustive_page -->"
END = "<!-- end of exhaustive -->"
LOOKED_AT = ("operators", "overtaking")


def main() -> None:
    """Reads the runs from standard input, then plants the bugs in the services' code, one after another."""
    runs = [json.loads(line) for line in sys.stdin]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip([bug.name for bug in BUGS], pool.map(search, [bug.name for bug in BUGS]), strict=True))
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    section = "\n".join([BEGIN, "", *table(runs), "", *recall(found), "", END])
    PAGE.write_text(before + section + rest.split(END)[1], "utf-8")


def search(name: str) -> dict[str, Any]:
    """What the search finds of a planted bug."""
    done = planted(name, "search", *LOOKED_AT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One line a run."""
    yield "| run | orders | at most, in one history | states | transitions | again | at rest | depth |"
    yield "|---|---|---|---|---|---|---|---|"
    for each in runs:
        found, run = each["found"], RUNS[each["run"]]
        kept = "" if found["whole"] and found["counterexample"] is None else " **broken**"
        yield (
            f"| `{each['run']}`{kept} | {run.orders} | {bounds_of(Bounds(**each['bounds']))} | {found['states']:,} | "
            f"{found['transitions']:,} | {found['delivered_again']:,} | {found['at_rest']:,} | {found['depth']} |"
        )


def recall(found: dict[str, dict[str, Any]]) -> Sequence[str]:
    """How many bugs of the services' code it catches, and which not."""
    caught = {name: each for name, each in found.items() if each["run"]}
    missed = ", ".join(f"`{name}`" for name in found if name not in caught) or "none"
    listed = ", ".join(f"`{name}` ({each['states']:,})" for name, each in caught.items())
    figures = f"{len(caught)} of {len(found)} bugs that are planted in the services' code"
    return (
        f"It catches {figures}, after so many states: {listed}.",
        "",
        f"It does not see: {missed}.",
    )


if __name__ == "__main__":
    main()
