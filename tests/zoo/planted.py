"""A process with one bug in it: it runs seeds of the simulator, a search or tests, and says what came of it in JSON.

`python -m tests.zoo.planted NAME simulate FIRST END`, `python -m tests.zoo.planted NAME search RUN…` or
`python -m tests.zoo.planted NAME pytest ARGUMENT…`; with the name `-` there is no bug. With `steer FIRST END`, so
many worlds are looked at as `orderflow simulate --steer` does.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

from tests.zoo.bug import plant
from tests.zoo.inmates import ZOO


def main(name: str, what: str, *arguments: str) -> int:
    """Returns an exit code: of pytest, or 0."""
    if name != "-":
        plant(ZOO[name])
    if what == "pytest":
        import pytest

        return int(pytest.main(list(arguments)))
    if what == "search":
        print(json.dumps(search(*arguments)), flush=True)  # noqa: T201
        return 0
    first, end = map(int, arguments)
    found = steered(first, end) if what == "steer" else simulate(first, end)
    print(json.dumps(found), flush=True)  # noqa: T201
    return 0


def simulate(first: int, end: int) -> dict[str, Any]:
    """The first seed at which something is broken, and what; or None."""
    started = time.perf_counter()
    seed = first
    try:
        from orderflow.simulation.run import run

        gc.freeze()
        gc.disable()
        for seed in range(first, end):
            gc.collect()
            broken = run(seed).broken
            if broken:
                return {"seed": seed, "broken": list(broken[:5]), "seconds": time.perf_counter() - started}
    except Exception as error:  # noqa: BLE001  # a world that ends in an error has shown the bug
        broken = (f"{type(error).__name__}: {error}",)
        return {"seed": seed, "broken": broken, "seconds": time.perf_counter() - started}
    return {"seed": None, "broken": [], "seconds": time.perf_counter() - started}


def steered(first: int, end: int) -> dict[str, Any]:
    """As `simulate`; `worlds` says how many it took, `seed` is what `orderflow simulate --seed` takes."""
    started = time.perf_counter()
    from orderflow.simulation.plan import name_of
    from orderflow.simulation.run import run_plan
    from orderflow.simulation.survey import Steering

    steering = Steering(first)
    for number in range(1, end - first + 1):
        plan = steering.next()
        try:
            run = run_plan(plan)
        except Exception as error:  # noqa: BLE001  # a world that ends in an error has shown the bug
            broken: tuple[str, ...] = (f"{type(error).__name__}: {error}",)
        else:
            broken = run.broken
            steering.learn(plan, run.coverage)
        if broken:
            took_s = time.perf_counter() - started
            return {"seed": name_of(plan), "worlds": number, "broken": list(broken[:5]), "seconds": took_s}
    return {"seed": None, "worlds": end - first, "broken": [], "seconds": time.perf_counter() - started}


def search(*runs: str) -> dict[str, Any]:
    """What the exhaustive search finds broken, in which of its runs, and after how many states; or None."""
    run, states = "", 0
    try:
        from orderflow.simulation.exhaustive.__main__ import explore
        from orderflow.simulation.exhaustive.setting import RUNS

        for run in runs or RUNS:
            found = explore(RUNS[run])
            states += found.states
            if found.counterexample is not None:
                broken, steps = list(found.counterexample.broken[:5]), list(found.counterexample.steps)
                return {"run": run, "states": states, "broken": broken, "steps": steps}
    except Exception as error:  # noqa: BLE001  # a search that ends in an error has shown the bug
        return {"run": run, "states": states, "broken": [f"{type(error).__name__}: {error}"], "steps": []}
    return {"run": None, "states": states, "broken": [], "steps": []}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
